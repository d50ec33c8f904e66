package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// binary is Caddy with this module in it, built once.
var binary = sync.OnceValues(func() (string, error) { return built("../cmd/caddy") })

// built is a program of this repository.
func built(pkg string) (string, error) {
	path := filepath.Join(os.Getenv("XDG_DATA_HOME"), filepath.Base(pkg)+"-under-test") // TestMain removes it
	if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
}

// program is one that runs by itself.
type program struct {
	t          *testing.T
	cmd        *exec.Cmd
	url, admin string
	log        *bytes.Buffer
}

// run starts it with a site at addr that has these words, and waits until it
// answers.
func run(t *testing.T, addr, words string) *program {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	config := fmt.Sprintf("{\npersist_config off\nauto_https off\ngrace_period 1s\n}\nhttp://%s {\n%s\n}\n", addr, words)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return runFile(t, addr, file)
}

// runFile starts it with a Caddyfile that has a site at addr.
func runFile(t *testing.T, addr, file string, env ...string) *program {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, url: "http://" + addr, admin: freeAddr(t), log: new(bytes.Buffer)}
	p.cmd = exec.Command(path, "run", "--adapter", "caddyfile", "--config", file)
	p.cmd.Env = append(append(os.Environ(), "CADDY_ADMIN="+p.admin, "XDG_DATA_HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir()), env...)
	p.begin(p.admin, addr)
	return p
}

// begin starts the program, and waits until it listens.
func (p *program) begin(addresses ...string) {
	p.t.Helper()
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { p.end(syscall.SIGKILL) })
	for _, address := range addresses {
		eventually(p.t, address+" answers", func() bool {
			conn, err := net.Dial("tcp", address)
			return err == nil && conn.Close() == nil
		})
	}
}

func (p *program) end(how syscall.Signal) {
	if p.cmd.ProcessState == nil {
		p.cmd.Process.Signal(how)
		p.cmd.Wait()
	}
}

// disk is what the admin endpoint says of it.
func (p *program) disk() (d struct{ Keys, Written_total, Hits_total, Damaged_total int }) {
	res, err := http.Get("http://" + p.admin + "/app_proxy/cache")
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	var all []struct {
		Disk *struct{ Keys, Written_total, Hits_total, Damaged_total int }
	}
	if err := json.NewDecoder(res.Body).Decode(&all); err != nil || len(all) != 1 || all[0].Disk == nil {
		p.t.Fatal(all, err)
	}
	return *all[0].Disk
}

func (p *program) purge(order string) {
	res, err := http.Post("http://"+p.admin+"/app_proxy/purge", "application/json", strings.NewReader(order))
	if err != nil || res.StatusCode != 200 {
		p.t.Fatal(res, err)
	}
	res.Body.Close()
}

// TestCacheOnDiskSurvivesKilledProcess: hits come from disk after a kill -9, and an
// orderly end; what was purged just before does not come back, nor what a write
// has changed, nor what is damaged.
func TestCacheOnDiskSurvivesKilledProcess(t *testing.T) {
	n := newNews(t)
	folder := t.TempDir()
	addr := freeAddr(t)
	words := "app_proxy " + n.addr + " {\nname kept\ncache 8MiB {\ndisk 16MiB " + folder + "\n}\n}"
	get := func(p *program, path string) (string, bool) {
		t.Helper()
		before := n.asked.Load()
		res, err := http.Get(p.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res.StatusCode, err)
		}
		return string(text), n.asked.Load() == before
	}
	p := run(t, addr, words)
	pages := make(map[string]string)
	for _, path := range []string{"/1", "/2", "/3", "/4"} {
		pages[path], _ = get(p, path)
	}
	eventually(t, "all are written", func() bool { return p.disk().Keys == 4 })
	p.end(syscall.SIGKILL)

	p = run(t, addr, words)
	for path, want := range pages {
		if text, hit := get(p, path); !hit || text != want {
			t.Errorf("%s after a kill: hit %t, %q, %+v", path, hit, text, p.disk())
		}
	}
	p.purge(`{"urls": ["` + p.url + `/1"]}`)
	p.end(syscall.SIGKILL)

	p = run(t, addr, words)
	if _, hit := get(p, "/1"); hit {
		t.Error("what was purged came back")
	}
	if _, hit := get(p, "/2"); !hit {
		t.Error("what was not purged is gone")
	}
	p.end(syscall.SIGTERM)

	p = run(t, addr, words)
	if _, hit := get(p, "/3"); !hit {
		t.Error("no hit after an orderly end")
	}
	// A write that invalidates the tag of all.
	res, err := http.Post(p.url+"/post", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	p.end(syscall.SIGKILL)

	p = run(t, addr, words)
	for path := range pages {
		if text, hit := get(p, path); hit || !strings.Contains(text, "latest 1") {
			t.Errorf("%s is from before the write: %q", path, text)
		}
	}
	eventually(t, "all are written", func() bool { return p.disk().Keys == 4 })
	p.end(syscall.SIGKILL)

	damageKept(t, folder)
	p = run(t, addr, words)
	for path := range pages {
		if text, hit := get(p, path); hit || !strings.Contains(text, "latest 1") {
			t.Errorf("%s is damaged, and served", path)
		}
	}
	if d := p.disk(); d.Damaged_total == 0 {
		t.Errorf("%+v", d)
	}
	p.end(syscall.SIGTERM)
	for _, line := range strings.Split(p.log.String(), "\n") {
		if strings.Contains(line, `"level":"error"`) {
			t.Error(line)
		}
	}
}

// damageKept changes a word in every page.
func damageKept(t *testing.T, folder string) {
	files, err := filepath.Glob(filepath.Join(folder, "*", "*.objects"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, bytes.ReplaceAll(file, []byte("need not"), []byte("must not")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
