#!/usr/bin/env bash
#
#   ./xcaddy.sh        builds bin/caddy: Caddy with Portner in it
#   ./xcaddy.sh run    builds it and the news application, and runs both with ./Caddyfile
#
# Needs Go and nothing else; not root; asks nothing. `run` reads from the environment:
#
#   SITE_ADDRESS   https://localhost:8443   the site, as in the Caddyfile
#   HTTP_PORT      8080                     plain HTTP, a redirect to the site
#   WEBAPP_LISTEN  127.0.0.1:5001           the news application
#   UPSTREAM       (the news application)   your own application instead; it must be running
#   PORTNER_DATA   .data                    certificates, database, logs
set -euo pipefail
unset CDPATH
export GOWORK=off # this module alone, wherever it lies

module=github.com/portner/portner
xcaddy_version=v0.4.5

from=$PWD # relative paths in the environment are meant from where the user stands
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$PWD

say() { printf '%s\n' "$*"; }

die() {
	printf 'xcaddy.sh: %s\n' "$*" >&2
	exit 1
}

# --- build ------------------------------------------------------------------

check_go() {
	local need why
	need=$(awk '$1 == "go" { print $2; exit }' go.mod)
	command -v go >/dev/null ||
		die "Go is not installed, or not in PATH. Install Go $need or newer: https://go.dev/doc/install"

	# The go command itself is asked whether it is new enough: since Go 1.21 an
	# older one fetches the one that go.mod wants, unless it is told not to.
	why=$(go list -m 2>&1) && return
	case $why in
	*"go.mod requires go >="* | *"invalid go version"* | *toolchain*)
		die "$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || echo 'this Go') is too old." \
			"Install Go $need or newer: https://go.dev/doc/install (Go says: $why)" ;;
	*)
		die "Go cannot read go.mod: $why" ;;
	esac
}

# proxies lists the module proxies in a way that makes any refusal mean "not
# found". Go asks them whether the package we replace by this folder is a module
# of its own, and a proxy may answer that with 403, which would end the build;
# "direct" would go on to ask for the repository.
proxies() {
	local p list='' IFS=,\|
	for p in $(go env GOPROXY); do
		case $p in
		*://*) list=$list$p'|' ;;
		esac
	done
	case $list in
	'') go env GOPROXY ;;
	*) say "${list}off" ;;
	esac
}

# build_caddy writes bin/caddy, and beside it what it was made of.
build_caddy() (
	caddy_version=$(awk '$1 == "github.com/caddyserver/caddy/v2" { print $2; exit }' go.mod)
	say "building bin/caddy: Caddy $caddy_version with Portner (the first time takes minutes)"
	mkdir -p bin
	rm -f bin/caddy.made_of

	# Nothing of the user's own xcaddy settings: XCADDY_SETCAP would ask for a password.
	# shellcheck disable=SC2086 # one word per name is meant
	unset ${!XCADDY_@}
	# These replace xcaddy's defaults, so the defaults are repeated.
	export XCADDY_GO_BUILD_FLAGS='-ldflags="-w -s" -trimpath -tags=nobadger,nomysql,nopgx'
	GOFLAGS="$(go env GOFLAGS) -mod=mod" GOPROXY=$(proxies) \
		go run "github.com/caddyserver/xcaddy/cmd/xcaddy@$xcaddy_version" build "$caddy_version" \
		--output bin/caddy --with "$module/caddymodule" --replace "$module=." \
		</dev/null >bin/build.log 2>&1 || {
		tail -n 20 bin/build.log >&2
		die "building bin/caddy failed; all of it is in $root/bin/build.log"
	}
	made_of >bin/caddy.made_of
)

# made_of is a checksum of all that decides what bin/caddy is, and of bin/caddy.
# A build that changes nothing still takes seconds and the network.
made_of() {
	{
		go env GOVERSION GOOS GOARCH GOAMD64 GOARM GOARM64 GOEXPERIMENT GOFLAGS CGO_ENABLED
		find caddymodule -type f -print | LC_ALL=C sort | while IFS= read -r file; do cksum "$file"; done
		cksum go.mod go.sum xcaddy.sh bin/caddy
	} | cksum
}

up_to_date() {
	[ -x bin/caddy ] && [ -f bin/caddy.made_of ] && [ "$(made_of)" = "$(cat bin/caddy.made_of)" ]
}

build_beside() {
	say "building bin/webapp"
	go build -trimpath -o bin/webapp ./webapp
	go build -trimpath -o bin/healthcheck ./deploy/healthcheck
}

# --- run --------------------------------------------------------------------

# read_settings turns the environment into what both processes are started
# with. Caddy and the Caddyfile read the exported ones themselves.
read_settings() {
	site=${SITE_ADDRESS:-https://localhost:8443}
	http_port=${HTTP_PORT:-8080}
	listen=${WEBAPP_LISTEN:-127.0.0.1:5001}
	own_app=${UPSTREAM:-}
	data=${PORTNER_DATA:-$root/.data}
	case $data in
	/*) ;;
	*) data=$from/$data ;;
	esac

	local first=${site%%[, ]*} # several addresses: the first stands for all
	scheme=https
	case $first in
	http://*) scheme=http ;;
	esac
	first=${first#*://}
	first=${first%%/*}
	host=${first%:*}
	case $first in
	*:*) port=${first##*:} ;;
	*) [ $scheme = https ] && port=443 || port=$http_port ;;
	esac
	[ -n "$host" ] || host=localhost
	url=$scheme://$host:$port
	[ "$scheme:$port" != https:443 ] || url=$scheme://$host
	ca=$data/caddy/pki/authorities/local/root.crt

	export SITE_ADDRESS=$site HTTP_PORT=$http_port UPSTREAM=${own_app:-$(reachable "$listen")}
}

# reachable is the address at which a listener is reached from this machine.
reachable() {
	case ${1%:*} in
	'' | 0.0.0.0 | '[::]') say "127.0.0.1:${1##*:}" ;;
	*) say "$1" ;;
	esac
}

in_use() { # <host> <port>
	(exec 3<>"/dev/tcp/$1/$2") 2>/dev/null
}

# check_port also looks at IPv6, where a server may be alone. Caddy would not
# notice: its sockets may share a port with another Caddy's.
check_port() { # <port> <what for> <setting, without its port>
	case $1 in
	'' | *[!0-9]*) die "$2 needs a port number, not '$1'. Set it: ${3}8000 ./xcaddy.sh run" ;;
	esac
	if in_use 127.0.0.1 "$1" || in_use ::1 "$1"; then
		die "port $1, wanted for $2, is in use. Stop what listens there, or choose another: $3$((10#$1 + 1000)) ./xcaddy.sh run"
	fi
}

check_ports() {
	check_port "$port" "the site" "SITE_ADDRESS=$scheme://$host:"
	[ $scheme = http ] || check_port "$http_port" "plain HTTP" "HTTP_PORT="
	[ -n "$own_app" ] || check_port "${listen##*:}" "the news application" "WEBAPP_LISTEN=127.0.0.1:"
}

# take_data makes the data folder ours. Two Caddys with one set of certificates
# get on; two applications started by hand on one database are a mistake.
take_data() {
	{ mkdir -p "$data/log" && [ -w "$data" ]; } 2>/dev/null ||
		die "cannot write to $data. Choose another folder: PORTNER_DATA=<folder> ./xcaddy.sh run"
	chmod 700 "$data" # the CA's key and the database are nobody else's business
	local other
	other=$(cat "$data/run.pid" 2>/dev/null) || other=
	if [ -n "$other" ] && kill -0 "$other" 2>/dev/null && is_this_script "$other"; then
		die "$data is in use by another ./xcaddy.sh run (process $other)." \
			"Stop it, or choose another folder: PORTNER_DATA=<folder> ./xcaddy.sh run"
	fi
	printf '%s\n' $$ >"$data/run.pid"
	holds_data=yes

	# Caddy's admin endpoint is a socket among our data, not port 2019 for every
	# user of this machine. A socket's path must be short (104 bytes on a Mac).
	local socket=$data/admin.sock
	if [ -z "${CADDY_ADMIN:-}" ]; then
		if [ ${#socket} -ge 100 ]; then
			socket_dir=$(mktemp -d)
			socket=$socket_dir/admin.sock
		fi
		export CADDY_ADMIN=unix/$socket
	fi
}

is_this_script() { # <pid>; a number left behind may belong to somebody else by now
	case $(tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null || ps -o args= -p "$1" 2>/dev/null) in
	*xcaddy.sh*) true ;;
	*) false ;;
	esac
}

# start runs a command in a process group of its own, so that Ctrl-C reaches
# this script alone and it can stop Caddy first, then the application.
start() { # <name> <command> ...
	local log=$data/log/$1.log
	shift
	[ ! -f "$log" ] || mv -f "$log" "$log.old"
	set -m
	"$@" </dev/null >"$log" 2>&1 &
	set +m
	started=$!
}

running() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }

# check_alive ends everything when one of the two is gone.
check_alive() {
	local name=caddy pid=$caddy_pid status=0
	if running "$caddy_pid"; then
		[ -n "$webapp_pid" ] || return 0
		running "$webapp_pid" && return
		name=webapp pid=$webapp_pid
	fi
	wait "$pid" || status=$?
	printf 'xcaddy.sh: %s has ended (status %d). Its last words, from %s:\n' "$name" $status "$data/log/$name.log" >&2
	tail -n 10 "$data/log/$name.log" >&2
	failed=yes
	stopping=yes
}

# stop asks one of our two processes to end and waits for it: longer than the
# grace that either gives to running requests (Caddy 10 s, the webapp 20 s).
stop() { # <name> <pid>
	local tries=0 status=0
	[ -n "$2" ] || return 0
	if running "$2"; then
		kill -TERM "$2" 2>/dev/null || true
		while running "$2"; do
			if [ $((tries += 1)) -gt 300 ]; then
				say "$1 has not ended after 30 s; killing it"
				kill -KILL "$2" 2>/dev/null || true
			fi
			sleep 0.1 || true # a second Ctrl-C ends it early
		done
	fi
	wait "$2" || status=$?
	if [ $status -ne 0 ] && [ -z "$failed" ]; then
		printf 'xcaddy.sh: %s did not stop cleanly (status %d); see %s\n' "$1" $status "$data/log/$1.log" >&2
		failed=yes
	fi
}

clean_up() {
	stop caddy "$caddy_pid"
	stop webapp "$webapp_pid"
	[ -z "$holds_data" ] || rm -f "$data/run.pid"
	[ -z "$socket_dir" ] || rm -rf "$socket_dir"
}

# answers asks both once. For a public name the certificate may take a while, and
# your own application may be down, so there Caddy is asked for its redirect alone.
answers() {
	local local_site=$url from_ca=(-ca "$ca")
	if [ "$scheme" = http ]; then
		from_ca=()
	elif [ -z "$is_local" ] || [ -n "$own_app" ]; then
		local_site=http://127.0.0.1:$http_port from_ca=()
	fi
	bin/healthcheck -timeout 2s ${from_ca[@]+"${from_ca[@]}"} "$local_site" &&
		{ [ -n "$own_app" ] || bin/healthcheck -timeout 2s "http://$UPSTREAM/status"; }
}

wait_until_ready() {
	local tries=0 why
	while [ -z "$stopping" ]; do
		why=$(answers 2>&1 >/dev/null) && return
		check_alive
		if [ -z "$stopping" ] && [ $((tries += 1)) -gt 150 ]; then
			printf 'xcaddy.sh: no answer after half a minute: %s\nThe logs are in %s\n' "$why" "$data/log" >&2
			failed=yes
			stopping=yes
		fi
		sleep 0.2 || true
	done
}

show_where() {
	say
	say "ready: $url"
	[ $scheme = http ] || say "  plain HTTP    http://$host:$http_port redirects there"
	if [ -n "$is_local" ] && [ $scheme = https ]; then
		say "  certificate   from Caddy's own CA, so a browser warns once; curl trusts it so:"
		say "                curl --cacert $(printf %q "$ca") $url"
	elif [ $scheme = https ]; then
		say "  certificate   Caddy gets one for $host now; if it cannot, its log says why"
	fi
	say "  application   ${own_app:-http://$UPSTREAM (the news application)}"
	say "  data, logs    $data"
	say "  reload        kill -USR1 $caddy_pid (after a change of the Caddyfile)"
	say "  stop          Ctrl-C"
}

run() {
	read_settings
	check_ports
	if up_to_date; then say "bin/caddy is up to date"; else build_caddy; fi
	build_beside

	is_local='' holds_data='' socket_dir='' caddy_pid='' webapp_pid='' stopping='' failed=''
	case $host in
	localhost | *.localhost | 127.* | '[::1]') is_local=yes ;;
	esac
	trap clean_up EXIT
	trap 'stopping=yes' INT TERM HUP
	take_data

	if [ -z "$own_app" ]; then
		start webapp bin/webapp -listen "$listen" -db "$data/news.db"
		webapp_pid=$started
	fi
	# For Caddy alone: Go keeps its settings below XDG_CONFIG_HOME, too.
	start caddy env XDG_DATA_HOME="$data" XDG_CONFIG_HOME="$data/config" \
		bin/caddy run --config Caddyfile --adapter caddyfile
	caddy_pid=$started

	wait_until_ready
	[ -n "$stopping" ] || show_where
	while [ -z "$stopping" ]; do
		sleep 1 &
		wait $! || true # a signal ends the wait at once
		check_alive
	done

	trap - EXIT
	[ -n "$failed" ] || say "stopping"
	clean_up
	[ -z "$failed" ] || exit 1
	say "stopped"
}

case ${1:-} in
'')
	check_go
	build_caddy
	say "built: $root/bin/caddy"
	;;
run)
	check_go
	run
	;;
*)
	die "unknown word '$1'. Say ./xcaddy.sh to build bin/caddy, or ./xcaddy.sh run to build and run."
	;;
esac
