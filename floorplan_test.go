package portner_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// floor is one row of the floor plan of the design: a package, by its path in
// the module, and what it may import besides the standard library, zap, and the
// packages below its own folder.
type floor struct {
	pkg      string
	may      []string // import paths; with /... also everything below
	sentence string   // the rule as a person says it
}

const module = "github.com/portner/portner"

var plan = []floor{
	{"cmd/caddy", []string{module + "/caddymodule", caddy}, "cmd/caddy is Caddy with caddymodule in it, and nothing else"},
	{"caddymodule", []string{module + "/caddymodule/internal/...", caddy, "github.com/dustin/go-humanize", "github.com/spf13/cobra", "golang.org/x/net/bpf", "golang.org/x/net/http/httpguts", "golang.org/x/sys/unix"},
		"caddymodule is the shell: it may import its internal packages and Caddy"},
	{"caddymodule/internal/front", leaves("route", "admission", "httpcache", "journal", "upstream"),
		"front introduces the leaves route, admission, httpcache, journal and upstream to each other; it does not know Caddy"},
	{"caddymodule/internal/admission", nil, "admission is a leaf: no sibling, no Caddy, no net/http"},
	{"caddymodule/internal/route", nil, "route is a leaf: no sibling, no Caddy, no net/http"},
	{"caddymodule/internal/upstream", nil, "upstream is a leaf: no sibling, no Caddy, no net/http"},
	{"caddymodule/internal/httpcache", []string{"github.com/maypok86/otter/v2/...", "github.com/klauspost/compress/..."},
		"httpcache is a leaf: no sibling, no Caddy, no net/http"},
	{"caddymodule/internal/journal", []string{"github.com/cockroachdb/pebble/v2/..."},
		"journal is a leaf: no sibling, no Caddy, no net/http"},
	{"caddymodule/internal/telemetry", append(leaves("front", "route", "admission", "httpcache", "journal", "upstream"), "github.com/prometheus/client_golang/prometheus"),
		"telemetry may import front and the leaves, for their Stats, and prometheus; it does not know Caddy"},
	{"webapp", []string{module + "/webapp/internal/..."}, "webapp's main wires its own internal packages"},
	{"webapp/internal/server", append(rooms("page", "api", "session", "store", "news"), echo, "github.com/prometheus/client_golang/prometheus/..."),
		"server may import page, api, session, store, news, echo and prometheus"},
	{"webapp/internal/page", append(rooms("session", "store", "news"), echo), "page may import session, store, news and echo; never api"},
	{"webapp/internal/api", append(rooms("session", "store", "news"), echo), "api may import session, store, news and echo; never page"},
	{"webapp/internal/store", append(rooms("news"), "modernc.org/sqlite/...", "github.com/jackc/pgx/v5/...", "github.com/pressly/goose/v3/...", "golang.org/x/crypto/argon2"),
		"store may import news, sqlite, pgx, migrations and argon2"},
	{"webapp/internal/session", append(rooms("store", "news"), echo), "session may import store, news and echo"},
	{"webapp/internal/news", nil, "news imports nothing"},
	{"bench", []string{"golang.org/x/net/http2/...", "golang.org/x/sys/unix"}, "bench is a black box: it speaks HTTP and imports neither half"},
	{"deploy", []string{"github.com/compose-spec/compose-go/v2/..."}, "deploy is files, and a test that reads them"},
}

const (
	caddy = "github.com/caddyserver/caddy/v2/..."
	echo  = "github.com/labstack/echo/v4/..."
)

func leaves(names ...string) []string { return below("caddymodule/internal", names) }
func rooms(names ...string) []string  { return below("webapp/internal", names) }

func below(dir string, names []string) []string {
	var paths []string
	for _, name := range names {
		paths = append(paths, path.Join(module, dir, name))
	}
	return paths
}

// pkg is what `go list` says of a package.
type pkg struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func TestFloorPlan(t *testing.T) {
	standard := make(map[string]bool)
	for _, p := range list(t, "std") {
		standard[p.ImportPath] = true
	}
	rows := make(map[string]floor)
	for _, row := range plan {
		rows[path.Join(module, row.pkg)] = row
	}
	for _, p := range list(t, "./...") {
		if p.ImportPath == module {
			continue // this test
		}
		row, ok := rowFor(rows, p.ImportPath)
		if !ok {
			t.Errorf("%s is not in the floor plan: give it a row in floorplan_test.go", p.ImportPath)
			continue
		}
		leaf := strings.HasSuffix(row.sentence, "no net/http")
		for _, imported := range p.Imports {
			switch {
			case imported == "testing":
				t.Errorf("%s imports testing: helpers for tests belong in _test.go files", p.ImportPath)
			case leaf && imported == "net/http":
				t.Errorf("%s imports %s: %s", p.ImportPath, imported, row.sentence)
			case standard[imported], strings.HasPrefix(imported, "go.uber.org/zap"):
			case strings.HasPrefix(imported, p.ImportPath+"/") && !strings.Contains(imported, "/internal/"):
			case !slices.ContainsFunc(row.may, func(may string) bool { return covers(may, imported) }):
				t.Errorf("%s imports %s: %s", p.ImportPath, imported, row.sentence)
			}
		}
	}
}

// rowFor finds the row of a package or of the folder that it is below of.
func rowFor(rows map[string]floor, importPath string) (floor, bool) {
	for p := importPath; p != module && p != "."; p = path.Dir(p) {
		if row, ok := rows[p]; ok {
			return row, true
		}
	}
	return floor{}, false
}

func covers(may, imported string) bool {
	if dir, all := strings.CutSuffix(may, "/..."); all {
		return imported == dir || strings.HasPrefix(imported, dir+"/")
	}
	return may == imported
}
