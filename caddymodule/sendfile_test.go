package caddymodule_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestApplicationHandsFilesOver: by both ways; parts of files by the direct one.
func TestApplicationHandsFilesOver(t *testing.T) {
	root := t.TempDir()
	text := strings.Repeat("0123456789", 100_000)
	outside := filepath.Join(t.TempDir(), "secret")
	for name, content := range map[string]string{filepath.Join(root, "a film.txt"): text, outside: "secret"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Sendfile-Type") != "" || r.Header.Get("X-Accel-Mapping") != "" {
			t.Error("the client says what files are sent")
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("X-Mine", "1")
		w.Header().Set(r.URL.Query().Get("by"), r.URL.Query().Get("file"))
		fmt.Fprint(w, "never seen")
	})
	for _, direct := range []string{"on", "off"} {
		d := open(t, "app_proxy "+a.addr+" {\n name files\n concurrency 1\n sendfile_root "+root+"\n direct "+direct+"\n}")
		for _, c := range []struct {
			by, file string
			status   int
			body     string
		}{
			{"X-Sendfile", filepath.Join(root, "a film.txt"), 200, text},
			{"X-Sendfile", "a film.txt", 200, text},
			{"X-Accel-Redirect", "/a%20film.txt", 200, text},
			{"X-Sendfile", outside, 502, "upstream-failed"},
			{"X-Sendfile", "link", 502, "upstream-failed"},
			{"X-Accel-Redirect", "/../" + filepath.Base(outside), 502, "upstream-failed"},
			{"X-Accel-Redirect", "/%2e%2e/%2e%2e" + outside, 502, "upstream-failed"},
			{"X-Sendfile", root, 502, "upstream-failed"},
			{"X-Sendfile", "no such file", 502, "upstream-failed"},
		} {
			req, err := http.NewRequestWithContext(t.Context(), "GET", d.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.URL.RawQuery = "by=" + c.by + "&file=" + strings.ReplaceAll(strings.ReplaceAll(c.file, "%", "%25"), " ", "+")
			req.Header.Set("X-Sendfile-Type", "X-Sendfile")
			req.Header.Set("X-Accel-Mapping", "/=/")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != c.status || c.status == 200 && string(body) != c.body || c.status != 200 && !strings.Contains(string(body), `"reason":"`+c.body+`"`) || strings.Contains(string(body), "secret") {
				t.Errorf("direct %s, %s: %s: %d, %d bytes, %v", direct, c.by, c.file, res.StatusCode, len(body), err)
			}
			if c.status == 200 && (res.Header.Get("X-Mine") != "1" || res.Header.Get("Content-Type") != "text/plain" || res.Header.Get(c.by) != "") {
				t.Errorf("direct %s: %v", direct, res.Header)
			}
		}
	}
}

func TestPartOfAFileThatIsHandedOver(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "film"), []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Accel-Redirect", "/film") })
	d := open(t, "app_proxy "+a.addr+" {\n sendfile_root "+root+"\n}")
	req, err := http.NewRequestWithContext(t.Context(), "GET", d.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Range", "bytes=3-5")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != 206 || string(body) != "345" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}
