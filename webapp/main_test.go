package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is the program itself when it is asked to be, so that
// signals, exit status and a killed process are the real ones.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_IS_WEBAPP") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// client gives up when an answer will not come, so that a test says so.
var client = http.Client{Timeout: 20 * time.Second}

// process is a running webapp.
type process struct {
	cmd  *exec.Cmd
	addr string
	logs *bufio.Scanner
	seen bytes.Buffer // what it has logged so far
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], args...)}
	p.addr = p.begin(t, "serving")["address"].(string)
	return p
}

// begin starts the process and reads its log up to a line.
func (p *process) begin(t *testing.T, msg string) map[string]any {
	t.Helper()
	p.cmd.Env = append(os.Environ(), "TEST_IS_WEBAPP=1")
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.logs = bufio.NewScanner(stderr)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill() // it has ended long ago when the test went well
		p.cmd.Wait()
	})
	return p.wait(t, msg)
}

// wait reads the log up to a line with this message.
func (p *process) wait(t *testing.T, msg string) map[string]any {
	t.Helper()
	for p.logs.Scan() {
		p.seen.Write(append(p.logs.Bytes(), '\n'))
		var line map[string]any
		if json.Unmarshal(p.logs.Bytes(), &line) == nil && line["msg"] == msg {
			return line
		}
	}
	t.Fatalf("it ended without saying %q:\n%s", msg, p.seen.String())
	return nil
}

// end waits for the end of the process.
func (p *process) end(t *testing.T) (status int) {
	t.Helper()
	for p.logs.Scan() { // Wait closes the pipe: read it to its end first
		p.seen.Write(append(p.logs.Bytes(), '\n'))
	}
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func story(id int) string {
	return fmt.Sprintf(`{"post_title":"Story %d","post_text":"","hanesst_id":%d,"post_type":"story","post_parent":-1,`+
		`"username":"pg","pwd_hash":"Y89KIJ3frM","post_url":""}`, id, id)
}

func (p *process) post(id int) error {
	req, err := http.NewRequest("POST", "http://"+p.addr+"/post", strings.NewReader(story(id)))
	if err != nil {
		return err
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		return fmt.Errorf("item %d: %s", id, res.Status)
	}
	return nil
}

func (p *process) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	res, err := client.Get("http://" + p.addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// inFlight sends a post without its body and returns when the handler waits
// for it: net/http says "100 Continue" when the body is read.
func inFlight(t *testing.T, p *process, id int) (conn net.Conn, r *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST /post HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(story(id)))
	r = bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return conn, r
}

func TestStopAnswersWhatIsInFlight(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(sig.String(), func(t *testing.T) {
			db := filepath.Join(t.TempDir(), "news.db")
			p := start(t, "-listen", "127.0.0.1:0", "-db", db)
			conn, r := inFlight(t, p, 1)
			p.signal(t, sig)
			p.wait(t, "stopping: what is in flight is answered first")
			io.WriteString(conn, story(1))
			res, err := http.ReadResponse(r, nil)
			if err != nil || res.StatusCode != 200 || !res.Close {
				t.Fatalf("%+v, %v", res, err)
			}
			if status := p.end(t); status != 0 || !strings.Contains(p.seen.String(), `"stopped"`) {
				t.Errorf("ended with %d:\n%s", status, p.seen.String())
			}
			if _, body := start(t, "-listen", "127.0.0.1:0", "-db", db).get(t, "/latest"); body != "1" {
				t.Errorf("after the restart /latest is %s", body)
			}
		})
	}
}

func TestStopDoesNotWaitForever(t *testing.T) {
	p := start(t, "-listen", "127.0.0.1:0", "-db", filepath.Join(t.TempDir(), "news.db"), "-grace", "1ms")
	inFlight(t, p, 1)
	p.signal(t, syscall.SIGTERM)
	if status := p.end(t); status != 1 || !strings.Contains(p.seen.String(), "not answered within 1ms") {
		t.Errorf("ended with %d:\n%s", status, p.seen.String())
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	p := start(t, "-listen", "127.0.0.1:0", "-db", filepath.Join(t.TempDir(), "news.db"), "-grace", "24h")
	inFlight(t, p, 1)
	p.signal(t, syscall.SIGTERM)
	p.wait(t, "stopping: what is in flight is answered first")
	p.signal(t, syscall.SIGTERM)
	if p.end(t); p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v", p.cmd.ProcessState)
	}
}

// The process is killed at whatever it is doing; the file must hold every
// item that was answered.
func TestKilledProcessHasStoredWhatItAnswered(t *testing.T) {
	db := filepath.Join(t.TempDir(), "news.db")
	answered := 0
	for range 3 {
		p := start(t, "-listen", "127.0.0.1:0", "-db", db)
		for id := 1; id <= answered; id++ {
			if status, body := p.get(t, fmt.Sprintf("/item/%d", id)); status != 200 || !strings.Contains(body, fmt.Sprintf("Story %d", id)) {
				t.Fatalf("item %d was answered and is lost: %d", id, status)
			}
		}
		killAt := answered + 20
		for {
			if answered == killAt {
				go p.cmd.Process.Kill() // while the next ones are on their way
			}
			if p.post(answered+1) != nil {
				break
			}
			answered++
		}
		p.end(t)
	}
	if answered < 60 {
		t.Errorf("only %d items were answered", answered)
	}
}

// call runs the program in this process until it ends by itself, which it
// must do soon.
func call(t *testing.T, env map[string]string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out, err bytes.Buffer
	status = run(ctx, args, func(name string) string { return env[name] }, &out, &err)
	if ctx.Err() != nil {
		t.Errorf("%v did not end by itself", args)
	}
	return status, out.String(), err.String()
}

func TestPortInUseIsSaidBeforeAnythingIsTouched(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	folder := filepath.Join(t.TempDir(), "data")
	status, _, said := call(t, nil, "-listen", ln.Addr().String(), "-db", filepath.Join(folder, "news.db"))
	want := "webapp: " + ln.Addr().String() + " is in use by another program: stop that one, or choose another address with -listen\n"
	if status != 1 || said != want {
		t.Errorf("%d, %q\nwant %q", status, said, want)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of the database: %v", err)
	}
}

func TestHealthcheckEndsAsTheInstanceIs(t *testing.T) {
	p := start(t, "-listen", "127.0.0.1:0", "-db", filepath.Join(t.TempDir(), "news.db"))
	_, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, listen := range []string{p.addr, ":" + port, "0.0.0.0:" + port} {
		if status, _, said := call(t, nil, "-healthcheck", "-listen", listen); status != 0 {
			t.Errorf("%s, alive: %d %s", listen, status, said)
		}
	}
	p.signal(t, syscall.SIGTERM)
	p.end(t)
	if status, _, said := call(t, map[string]string{"WEBAPP_LISTEN": p.addr}, "-healthcheck"); status != 1 || !strings.Contains(said, "refused") {
		t.Errorf("stopped: %d %s", status, said)
	}
	down := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "Down")
	})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go down.Serve(ln) // ends with Close
	defer down.Close()
	if status, _, said := call(t, nil, "-healthcheck", "-listen", ln.Addr().String()); status != 1 || !strings.Contains(said, `503 "Down"`) {
		t.Errorf("down: %d %s", status, said)
	}
}

func TestSocketIsServedAndAnAbandonedOneReplaced(t *testing.T) {
	dir, err := os.MkdirTemp("", "webapp") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	listen := "unix:" + filepath.Join(dir, "s")
	args := []string{"-listen", listen, "-db", filepath.Join(dir, "news.db")}
	p := start(t, args...)
	if p.addr != listen {
		t.Errorf("address %s, want %s", p.addr, listen)
	}
	if status, _, said := call(t, nil, "-healthcheck", "-listen", listen); status != 0 {
		t.Errorf("%d %s", status, said)
	}
	if status, _, said := call(t, nil, args...); status != 1 || !strings.Contains(said, "in use") {
		t.Errorf("a second one: %d %s", status, said)
	}
	p.signal(t, syscall.SIGKILL)
	p.end(t)
	start(t, args...)
}

func TestHelpExplainsEveryFlag(t *testing.T) {
	status, said, _ := call(t, nil, "-help")
	if status != 0 {
		t.Errorf("ended with %d", status)
	}
	for _, word := range []string{"-listen", "WEBAPP_LISTEN", "-db", "WEBAPP_DB", "-grace", "WEBAPP_GRACE", "-drain", "WEBAPP_DRAIN", "-private", "WEBAPP_PRIVATE", "-url", "WEBAPP_URL", "DATABASE_URL", "DATABASE_URL_FILE", "-healthcheck", "-help", "127.0.0.1:5001", "data/webapp.db", "20s"} {
		if !strings.Contains(said, word) {
			t.Errorf("-help does not say %s", word)
		}
	}
}

func TestWrongConfigurationIsSaidInOneSentence(t *testing.T) {
	for _, row := range []struct {
		env   map[string]string
		args  []string
		words string
	}{
		{nil, []string{"-nothing"}, "-nothing"},
		{nil, []string{"serve"}, `unexpected argument "serve"`},
		{nil, []string{"-grace", "soon"}, `"soon"`},
		{nil, []string{"-grace", "-1s"}, "-1s must not be negative"},
		{nil, []string{"-url", "https://a.org/news"}, "must be http:// or https:// and a host"},
		{nil, []string{"-db", ""}, "-db must name a file or a database"},
		{map[string]string{"WEBAPP_GRACE": "soon"}, nil, "WEBAPP_GRACE"},
		{map[string]string{"DATABASE_URL": "mysql://u:sesame@h/d"}, nil, "must begin with postgres://"},
		{map[string]string{"DATABASE_URL": "postgres://h/d", "DATABASE_URL_FILE": "x"}, nil, "leave one out"},
		{map[string]string{"DATABASE_URL_FILE": "/no/such/file"}, nil, "DATABASE_URL_FILE"},
	} {
		status, _, said := call(t, row.env, row.args...)
		if status != 2 || !strings.Contains(said, row.words) || strings.Contains(said, "sesame") || strings.Count(said, "\n") != 2 {
			t.Errorf("%v: %d %q, want %q", row.args, status, said, row.words)
		}
	}
}

func TestFlagWinsOverEnvironment(t *testing.T) {
	env := map[string]string{"WEBAPP_LISTEN": "a:1", "WEBAPP_DB": "a.db", "WEBAPP_GRACE": "1s"}
	cfg, err := parseConfig([]string{"-db", "b.db"}, func(name string) string { return env[name] }, io.Discard)
	if err != nil || cfg.listen != "a:1" || cfg.db != "b.db" || cfg.grace.Seconds() != 1 {
		t.Errorf("%+v, %v", cfg, err)
	}
}

func TestAddressOfTheDatabaseMayStandInAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("postgres://u:sesame@h/d\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{map[string]string{"DATABASE_URL_FILE": file}, nil, "postgres://u:sesame@h/d"},
		{map[string]string{"DATABASE_URL": "postgresql://h/e"}, nil, "postgresql://h/e"},
		{map[string]string{"DATABASE_URL": "postgres://h/e", "WEBAPP_DB": "a.db"}, nil, "a.db"},
		{map[string]string{"DATABASE_URL": "postgres://h/e"}, []string{"-db", "b.db"}, "b.db"},
	} {
		cfg, err := parseConfig(row.args, func(name string) string { return row.env[name] }, io.Discard)
		if err != nil || cfg.db != row.want {
			t.Errorf("%v %v: %q, %v", row.env, row.args, cfg.db, err)
		}
	}
}

func TestDrainingIsSaidBeforeTheEnd(t *testing.T) {
	p := start(t, "-listen", "127.0.0.1:0", "-db", filepath.Join(t.TempDir(), "news.db"), "-drain", "24h")
	if status, body := p.get(t, "/ready"); status != 200 {
		t.Errorf("before: %d %s", status, body)
	}
	p.signal(t, syscall.SIGTERM)
	p.wait(t, "draining: not ready, and answering as before")
	if status, body := p.get(t, "/ready"); status != 503 {
		t.Errorf("draining: %d %s", status, body)
	}
	if err := p.post(1); err != nil {
		t.Error(err)
	}
}

func TestPrivatePortIsAnotherOne(t *testing.T) {
	p := &process{cmd: exec.Command(os.Args[0], "-listen", "127.0.0.1:0", "-db", filepath.Join(t.TempDir(), "news.db"), "-private", "127.0.0.1:0")}
	private := p.begin(t, "private port")
	p.addr = p.wait(t, "serving")["address"].(string)
	if status, _ := p.get(t, "/metrics"); status != 404 {
		t.Errorf("in public: %d", status)
	}
	p.addr = private["address"].(string)
	if status, body := p.get(t, "/metrics"); status != 200 || !strings.Contains(body, "webapp_store_commits_total") {
		t.Errorf("in private: %d", status)
	}
}

func TestSiteBeginsItsAddressesWithItsOwnName(t *testing.T) {
	p := start(t, "-listen", "127.0.0.1:0", "-db", filepath.Join(t.TempDir(), "news.db"), "-url", "https://news.example.com")
	if status, body := p.get(t, "/robots.txt"); status != 200 || !strings.Contains(body, "Sitemap: https://news.example.com/sitemap.xml") {
		t.Errorf("%d %s", status, body)
	}
	for _, wrong := range []string{"news.example.com", "https://news.example.com/", "ftp://a.org", "https://a.org?x", "https://u:p@a.org"} {
		if isOrigin(wrong) {
			t.Errorf("%q is taken", wrong)
		}
	}
}
