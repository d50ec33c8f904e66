// Command caddy is Caddy with Portner in it: the same binary that xcaddy.sh
// builds, for `go run` and for tests.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/portner/portner/caddymodule"
)

func main() {
	caddycmd.Main()
}
