package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// newsBench fills the news site with as many items as a large community has
// and asks for what its people ask for.
func newsBench(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("news", flag.ContinueOnError)
	stories := flags.Int("stories", 100_000, "how many stories")
	comments := flags.Int("comments", 1_000_000, "how many comments")
	long := flags.Duration("for", 10*time.Second, "how long each page is asked for")
	clients := flags.Int("clients", 16, "how many connections ask at once; posts come over four times as many")
	postgres := flags.String("postgres", "", "measure PostgreSQL as well: the `address` of an empty database, or \"private\" to start one for it")
	sqlite := flags.Bool("sqlite", true, "measure SQLite")
	keep := flags.String("keep", "", "keep filled databases in this `folder`, and measure copies of those that are there")
	only := flags.String("only", "", "ask only for what has this `word` in its name: front, item, search, API, POST, beside")
	ways := flags.String("ways", "straight,door", "how the site is asked: straight, door or both")
	out := flags.String("json", "", "write the results to this `file` as well")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *stories < 1 || *comments < 0 || *clients < 1 || *long <= 0 {
		fmt.Fprintln(flags.Output(), "there must be a story, a client and some time")
		return errUsage
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "portner-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	show := newProgress()
	defer show.clear()
	show.say("building")
	b, err := build(ctx, root, dir)
	if err != nil {
		return err
	}
	n := newsRun{binaries: b, caddyfile: filepath.Join(root, "Caddyfile"), dir: dir, stories: *stories, comments: *comments,
		long: *long, clients: *clients, only: *only, ways: strings.Split(*ways, ","), keep: *keep, show: show}
	fmt.Printf("%d stories, %d comments, %d CPUs (shared with this generator), %v each\n", *stories, *comments, runtime.NumCPU(), *long)
	if *sqlite {
		if err := n.measureSQLite(ctx); err != nil {
			return err
		}
	}
	if *postgres != "" {
		if err := n.measurePostgres(ctx, *postgres); err != nil {
			return err
		}
	}
	if *out != "" {
		text, err := json.MarshalIndent(n.results, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(*out, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	return n.broken()
}

type newsRun struct {
	binaries
	caddyfile, dir    string
	stories, comments int
	long              time.Duration
	clients           int
	only              string   // "" for all pages
	ways              []string // straight, door
	keep              string   // a folder; "" when nothing is kept
	show              *progress
	results           []NewsResult
}

// NewsResult is one page of one database, asked one way.
type NewsResult struct {
	Database string  `json:"database"`
	Way      string  `json:"way"` // straight or door
	What     string  `json:"what"`
	Clients  int     `json:"clients"`
	Rate     float64 `json:"per_second"`
	Latency  Latency `json:"latency"`
	NotOK    int     `json:"not_200"`
	Such     string  `json:"such,omitempty"`   // one of those that were not
	Allocs   float64 `json:"allocations_each"` // of the application
	Memory   float64 `json:"memory_mib"`       // of the application, afterwards
	Steal    float64 `json:"cpu_steal_percent"`
}

func (r NewsResult) String() string {
	return fmt.Sprintf("%-8s %-8s %-22s %7d %9.0f/s %9.2f %9.2f %9.2f %7d %8.0f %6.0f MiB %5.1f %%", r.Database, r.Way, r.What, r.Clients, r.Rate,
		r.Latency.P50, r.Latency.P99, r.Latency.Max, r.NotOK, r.Allocs, r.Memory, r.Steal)
}

func (n *newsRun) broken() error {
	for _, r := range n.results {
		if r.NotOK > 0 {
			return fmt.Errorf("%w: %s, %s, %s: %d not answered 200, such as: %s", errBroken, r.Database, r.Way, r.What, r.NotOK, r.Such)
		}
	}
	return nil
}

func (n *newsRun) measureSQLite(ctx context.Context) error {
	const name = "sqlite"
	dir := filepath.Join(n.dir, "filled")
	db := filepath.Join(dir, "news.db")
	if n.isKept(name) {
		if err := copyFolder(ctx, n.kept(name), dir); err != nil {
			return err
		}
	} else if err := n.fill(ctx, name, db); err != nil {
		return err
	} else if n.keep != "" {
		if err := copyFolder(ctx, dir, n.kept(name)); err != nil {
			return err
		}
	}
	return n.measure(ctx, name, db)
}

func (n *newsRun) measurePostgres(ctx context.Context, address string) error {
	const name = "postgres"
	if address != "private" {
		if err := n.fill(ctx, name, address); err != nil {
			return err
		}
		return n.measure(ctx, name, address)
	}
	n.show.say("starting PostgreSQL")
	kept := ""
	if n.isKept(name) {
		kept = n.kept(name)
	}
	p, err := startPostgres(ctx, kept)
	if err != nil {
		return err
	}
	defer p.stop()
	if kept == "" {
		if err := n.fill(ctx, name, p.address()); err != nil {
			return err
		}
		// It would by itself, within minutes.
		if err := p.run(ctx, "psql", "-h", p.dir, "-U", "postgres", "-c", "ANALYZE"); err != nil {
			return err
		}
		if n.keep != "" {
			if err := p.copyTo(ctx, n.kept(name)); err != nil {
				return err
			}
		}
	}
	return n.measure(ctx, name, p.address())
}

func (n *newsRun) measure(ctx context.Context, name, db string) error {
	for _, way := range n.ways {
		if err := n.ask(ctx, name, way, db); err != nil {
			return err
		}
	}
	return nil
}

// kept is where a filled database of this size is kept. What is measured is a
// copy, because posts go into it.
func (n *newsRun) kept(name string) string {
	return filepath.Join(n.keep, fmt.Sprintf("%s-%d-%d", name, n.stories, n.comments))
}

func (n *newsRun) isKept(name string) bool {
	_, err := os.Stat(n.kept(name))
	return n.keep != "" && err == nil
}

// copyFolder copies with owners and times; to is whole or not there.
func copyFolder(ctx context.Context, from, to string) error {
	part := to + ".part"
	if err := errors.Join(os.RemoveAll(part), os.MkdirAll(filepath.Dir(to), 0o755)); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", from, part).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, bytes.TrimSpace(out))
	}
	return os.Rename(part, to)
}

// rareEvery is how seldom a rare word stands in a text.
const rareEvery = 5000

// big is the story that a thousand comments answer.
const big = 1

// fill imports made-up items.
func (n *newsRun) fill(ctx context.Context, name, db string) error {
	cmd := exec.CommandContext(ctx, n.webapp, "import", "-db", db, "-")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return err
	}
	start := time.Now()
	w := bufio.NewWriterSize(in, 1<<20)
	err = errors.Join(n.write(w), w.Flush(), in.Close())
	if err := errors.Join(cmd.Wait(), err); err != nil {
		return fmt.Errorf("fill %s: %w\n%s", name, err, bytes.TrimSpace(said.Bytes()))
	}
	n.show.clear()
	took := time.Since(start)
	fmt.Printf("%s: filled in %v, %.0f items/s\n", name, took.Round(time.Second), float64(n.stories+n.comments)/took.Seconds())
	return nil
}

// write makes the records of an export: users, then items in the order of a
// community's years. The first story has a thousand comments, ten deep.
func (n *newsRun) write(w io.Writer) error {
	rnd := rand.New(rand.NewPCG(5, 6))
	enc := json.NewEncoder(w)
	const users = 5000
	for i := range users {
		err := enc.Encode(map[string]any{"user": map[string]any{"name": fmt.Sprintf("user_%d", i), "created": 1_160_000_000_000, "karma": 1}})
		if err != nil {
			return err
		}
	}
	counts := make([]int, n.stories+1)
	root := make([]int32, n.stories+n.comments+1)
	parent := make([]int32, n.stories+n.comments+1)
	isStory := func(id int) bool {
		return id == big || (id-1)*n.stories/(n.stories+n.comments) != (id-2)*n.stories/(n.stories+n.comments)
	}
	// First the tree, because a head's line counts its replies.
	var heads []int32
	headAt := make(map[int32]int)
	for id := 1; id <= n.stories+n.comments; id++ {
		switch {
		case isStory(id) || len(heads) == 0:
			heads = append(heads, int32(id))
			headAt[int32(id)] = len(heads) - 1
			root[id] = int32(id)
			if len(heads) > n.stories {
				counts = append(counts, 0)
			}
			continue
		case id < 1200 && counts[0] < 1000:
			root[id] = big
			parent[id] = big
			if counts[0] > 0 && rnd.IntN(3) > 0 {
				parent[id] = int32(2 + rnd.IntN(id-2))
				if root[parent[id]] != big || parent[parent[id]] == 0 {
					parent[id] = big
				}
			}
		default: // people talk about what is new, and answer each other
			head := heads[len(heads)-1-min(len(heads)-1, int(rnd.ExpFloat64()*50))]
			if head == big {
				head = heads[len(heads)-1]
			}
			root[id], parent[id] = head, head
			if before := int32(id - 1 - rnd.IntN(min(id-1, 40))); rnd.IntN(2) == 0 && root[before] == head {
				parent[id] = before
			}
		}
		counts[headAt[root[id]]]++
	}
	const began, step = 1_160_000_000_000, 500_000 // milliseconds
	for id := 1; id <= n.stories+n.comments; id++ {
		it := map[string]any{"seq": id, "id": id, "kind": "comment", "by": fmt.Sprintf("user_%d", rnd.IntN(users)), "created": int64(began) + int64(id)*step,
			"root": root[id], "points": 1 + int(rnd.ExpFloat64()*3)}
		if root[id] == int32(id) {
			it["kind"], it["title"], it["replies"] = "story", sentence(rnd, 3+rnd.IntN(8)), counts[headAt[int32(id)]]
			it["url"] = fmt.Sprintf("https://site%d.example/%d", rnd.IntN(3000), id)
		} else {
			it["parent"], it["body"] = parent[id], sentence(rnd, 10+rnd.IntN(60))
			if id%rareEvery == 0 {
				it["body"] = "Has anybody seen a quagga? " + it["body"].(string)
			}
		}
		if err := enc.Encode(map[string]any{"item": it}); err != nil {
			return err
		}
		if id%1000 == 0 {
			n.show.say("filling: %d of %d", id, n.stories+n.comments)
		}
	}
	return nil
}

// ask starts the site and asks for each page in turn.
func (n *newsRun) ask(ctx context.Context, name, way, db string) (err error) {
	dir := filepath.Join(n.dir, name+way)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	s, private, err := n.start(ctx, dir, way, db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if len(n.results) == 0 {
		fmt.Println("database way      what                   clients       rate       p50       p99    max ms not 200   allocs     memory   steal")
	}
	next := new(atomic.Int64)
	status, latest, err := get(s.client(10*time.Second), s.url+"/latest")
	if last, errLast := strconv.ParseInt(string(latest), 10, 64); err == nil && status == 200 && errLast == nil {
		next.Store(last)
	} else {
		return fmt.Errorf("/latest says %d %q", status, latest)
	}
	page := func(path string) func(*http.Client) (*http.Response, error) {
		return func(c *http.Client) (*http.Response, error) { return c.Get(s.url + path) }
	}
	post := func(c *http.Client) (*http.Response, error) { return newsPost(c, s.url, next.Add(1)) }
	for _, what := range []struct {
		name    string
		clients int
		send    func(*http.Client) (*http.Response, error)
	}{
		{"front page", n.clients, page("/")},
		{"item, 1000 comments", 1, page(fmt.Sprintf("/item/%d", big))},
		{"search, rare word", n.clients, page("/api/v1/search?q=quagga")},
		{"search, common word", n.clients, page("/api/v1/search?q=server")},
		{"search, three common", n.clients, page("/api/v1/search?q=startup+porter+lisp")},
		{"API front", n.clients, page("/api/v1/lists/front")},
		{"POST /post", 4 * n.clients, post},
		{besidePosts, n.clients, page("/")},
	} {
		if !strings.Contains(what.name, n.only) {
			continue
		}
		client := s.client(10 * time.Second)
		stop := func() {}
		if strings.HasPrefix(what.name, "POST") || what.name == besidePosts { // a user's first post costs what a login does
			for range posters {
				if err := answered200(post(client)); err != nil {
					return err
				}
			}
		}
		if what.name == besidePosts {
			stop = postsBeside(ctx, s.client(10*time.Second), post)
		}
		client.Transport.(*http.Transport).MaxIdleConnsPerHost = what.clients
		n.show.say("%s, %s: %s", name, way, what.name)
		r := load(ctx, client, what.clients, n.long, private, what.send)
		stop()
		client.CloseIdleConnections()
		if err := ctx.Err(); err != nil {
			return err
		}
		r.Database, r.Way, r.What, r.Clients = name, way, what.name, what.clients
		n.show.clear()
		fmt.Println(r)
		n.results = append(n.results, r)
	}
	return nil
}

func (n *newsRun) start(ctx context.Context, dir, way, db string) (s *site, private string, err error) {
	ports, err := freePorts(4)
	if err != nil {
		return nil, "", err
	}
	upstream := "127.0.0.1:" + ports[2]
	private = "http://127.0.0.1:" + ports[3]
	s = &site{url: "http://" + upstream}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	s.webapp, err = startProcess(dir, "webapp", nil, n.webapp, "-listen", upstream, "-db", db, "-private", "127.0.0.1:"+ports[3])
	if err != nil {
		return nil, "", err
	}
	if err := s.webapp.await(ctx, func() error { return alive(&http.Client{}, s.url) }); err != nil {
		return nil, "", err
	}
	if way == "straight" {
		return s, private, nil
	}
	s.url = "http://localhost:" + ports[0]
	s.caddy, err = startProcess(dir, "caddy", []string{
		"SITE_ADDRESS=" + s.url, "HTTP_PORT=" + ports[1], "UPSTREAM=" + upstream, "UPSTREAM_BY=address",
		"CADDY_ADMIN=unix/" + filepath.Join(dir, "admin.sock"), "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir,
	}, n.caddy, "run", "--config", n.caddyfile, "--adapter", "caddyfile")
	if err != nil {
		return nil, "", err
	}
	return s, private, s.caddy.await(ctx, func() error { return s.answers(dir, false) })
}

// besidePosts is what readers notice of writers: the front page while 500
// comments a second come in.
const besidePosts = "front beside 500 posts"

// postsBeside posts at that pace until stop is called.
func postsBeside(ctx context.Context, client *http.Client, post func(*http.Client) (*http.Response, error)) (stop func()) {
	const clients, each = 10, 20 * time.Millisecond
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() { // ends with ctx
			pace := time.NewTicker(each)
			defer pace.Stop()
			for ctx.Err() == nil {
				if err := answered200(post(client)); err != nil && ctx.Err() == nil {
					fmt.Fprintln(os.Stderr, "beside:", err)
				}
				select {
				case <-pace.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return func() { cancel(); wg.Wait(); client.CloseIdleConnections() }
}

const posters = 100

// newsPost answers an old item in the name of one of the posters.
func newsPost(c *http.Client, url string, id int64) (*http.Response, error) {
	user := id % posters
	body := fmt.Sprintf(`{"post_title":"","post_text":"I think that %d things go together here, and that the door needs a porter.","hanesst_id":%d,"post_type":"comment",`+
		`"post_parent":%d,"username":"poster_%d","pwd_hash":"secret%d","post_url":""}`, id, id, 2+id*7919%1_000_000, user, user) // where there is no such parent, it waits
	return c.Post(url+"/post", "application/json", strings.NewReader(body))
}

// load is a closed loop: every client asks again when it has its answer.
// Before the clock starts each asks for a second.
func load(ctx context.Context, client *http.Client, clients int, long time.Duration, private string, send func(*http.Client) (*http.Response, error)) NewsResult {
	rounds := func(until time.Time) (took []time.Duration, notOK int, such string) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() { // ends with the time or ctx
				var mine []time.Duration
				failed, one := 0, ""
				for time.Now().Before(until) && ctx.Err() == nil {
					start := time.Now()
					if err := answered200(send(client)); err != nil {
						failed++
						one = err.Error()
					}
					mine = append(mine, time.Since(start))
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, mine...)
				notOK += failed
				such = max(such, one)
			})
		}
		wg.Wait()
		return took, notOK, such
	}
	rounds(time.Now().Add(time.Second))
	before, known := readCPU()
	allocs := inside(private, "go_memstats_mallocs_total")
	start := time.Now()
	took, notOK, such := rounds(start.Add(long))
	r := NewsResult{Rate: float64(len(took)) / time.Since(start).Seconds(), Latency: latencyOf(took), NotOK: notOK, Such: such, Steal: -1}
	if known {
		r.Steal = stealSince(before)
	}
	r.Allocs = (inside(private, "go_memstats_mallocs_total") - allocs) / float64(max(1, len(took)))
	r.Memory = inside(private, "process_resident_memory_bytes") / (1 << 20)
	return r
}

func answered200(res *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", res.Status, body)
	}
	return err
}

// inside reads one of the application's metrics; 0 when it has none.
func inside(private, name string) float64 {
	client := http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	_, body, err := get(&client, private+"/metrics")
	if err != nil {
		return 0
	}
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(body)
	if m == nil {
		return 0
	}
	value, _ := strconv.ParseFloat(string(m[1]), 64)
	return value
}
