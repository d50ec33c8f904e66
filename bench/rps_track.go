package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A track is where the contenders run side by side. Not for concurrent use.
type track struct {
	lab
	proxies     []contender
	protocols   []protocol
	sizes       []int // KiB
	cores       []int
	length      time.Duration // of a measurement
	connections int

	loadBefore string // the machine's load averages
	readings   []Reading
}

// prepare finds and builds what is measured.
func (t *track) prepare(ctx context.Context) (err error) {
	t.begun, t.loadBefore = time.Now(), loadAverages()
	if t.root, err = moduleRoot(); err != nil {
		return err
	}
	if t.self, err = os.Executable(); err != nil {
		return err
	}
	if _, err := cpuOf(os.Getpid()); err != nil {
		return err
	}
	if t.dir, err = os.MkdirTemp("", "portner-rps-"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(t.dir)
		}
	}()
	if err := os.Chmod(t.dir, 0o755); err != nil { // nginx's workers are somebody else
		return err
	}
	t.proxies = slices.DeleteFunc(t.proxies, func(c contender) bool { return t.leaveOut(c.name, c.missing()) })
	_, missing := exec.LookPath("taskset")
	t.pinned = missing == nil && runtime.NumCPU() > 1
	if !t.pinned {
		t.leaveOut("pinning", "it takes two cores and taskset (util-linux): application, proxy and generator disturb each other")
	}
	t.cores = slices.DeleteFunc(t.cores, func(n int) bool { return t.leaveOut(fmt.Sprintf("%d cores", n), t.tooMany(n)) })
	if len(t.cores) == 0 || len(t.proxies) == 0 {
		return errors.New("nothing is left to be measured")
	}
	if t.caddy == "" && slices.ContainsFunc(t.proxies, func(c contender) bool { return c.program == "" }) {
		t.show.say("building Caddy")
		t.caddy = filepath.Join(t.dir, "caddy")
		return goBuild(ctx, t.root, "-tags=nobadger,nomysql,nopgx", "-o", t.caddy, "./cmd/caddy")
	}
	return nil
}

// tooMany says why a proxy cannot have so many cores, or nothing.
func (t *track) tooMany(cores int) string {
	switch all := runtime.NumCPU(); {
	case cores > all:
		return fmt.Sprintf("this machine has %d", all)
	case cores < all && !t.pinned:
		return "proxies cannot be kept to them without taskset"
	}
	return ""
}

// divide gives a proxy its cores, and application and generator the others. With
// none left they share the proxy's, and shared is true.
func divide(cores, all int) (proxy, others string, shared bool) {
	list := func(from, to int) string { return fmt.Sprintf("%d-%d", from, to-1) }
	if cores >= all {
		return list(0, all), list(0, all), true
	}
	return list(0, cores), list(cores, all), false
}

// pin is a command line that runs on some cores.
func (t *track) pin(cores, path string, args ...string) (string, []string) {
	if !t.pinned {
		return path, args
	}
	return "taskset", append([]string{"-c", cores, path}, args...)
}

// run interleaves: all of a round before the next, and in it every proxy before
// the next page. Who is first changes with the round.
func (t *track) run(ctx context.Context) error {
	for round := range t.rounds {
		for _, cores := range t.cores {
			if err := t.lap(ctx, round+1, cores); err != nil {
				return fmt.Errorf("round %d, %d cores: %w", round+1, cores, err)
			}
		}
	}
	return nil
}

// A lap has all proxies side by side; those that are not asked do nothing.
func (t *track) lap(ctx context.Context, round, cores int) (err error) {
	t.stages++
	dir := filepath.Join(t.dir, strconv.Itoa(t.stages))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := writeCertificate(dir); err != nil {
		return err
	}
	var running []*process
	defer func() {
		for _, p := range slices.Backward(running) {
			err = errors.Join(err, p.kill())
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	ports, err := freePorts(1 + 3*len(t.proxies))
	if err != nil {
		return err
	}
	local := func(i int) string { return "127.0.0.1:" + ports[i] }
	forProxy, forOthers, _ := divide(cores, runtime.NumCPU())

	path, args := t.pin(forOthers, t.self, "rps-app", "-listen", local(0), "-sizes", joinNumbers(t.sizes))
	app, err := startProcess(dir, "application", nil, path, args...)
	if err != nil {
		return err
	}
	running = append(running, app)
	if err := app.await(ctx, func() error { return alive(localClient, "http://"+local(0)) }); err != nil {
		return err
	}
	var runners []*runner
	for i, c := range t.proxies {
		r, err := c.start(t, forProxy, post{dir: dir, plain: local(3*i + 1), secure: local(3*i + 2), admin: local(3*i + 3), app: local(0), cores: cores, sizes: t.sizes, words: t.words})
		if err != nil {
			return err
		}
		running, runners = append(running, r.process), append(runners, r)
		if err := r.process.await(ctx, func() error { return alive(localClient, "http://"+r.plain) }); err != nil {
			return err
		}
	}
	first := (round - 1) % len(runners)
	runners = slices.Concat(runners[first:], runners[:first])
	for _, p := range t.protocols {
		for _, kib := range t.sizes {
			for _, r := range runners {
				if err := t.measure(ctx, Reading{Cores: cores, Protocol: p.name, KiB: kib, Proxy: r.name, Round: round}, p, r, app, forOthers); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// measure takes one reading of a proxy that runs.
func (t *track) measure(ctx context.Context, got Reading, p protocol, r *runner, app *process, cores string) error {
	t.show.say("round %d: %s", got.Round, got)
	s := &stage{app: app, peer: r.process}
	before := takeUsage(s)
	y, err := t.generate(ctx, cores, Errand{
		Address: r.address(p), Protocol: p.name, Certificate: filepath.Join(r.dir, "cert.pem"), Body: got.KiB << 10, Connections: t.connections,
		Warm: min(t.length/4, time.Second), Length: t.length, Processes: members(r.process), Metrics: r.metrics(),
	})
	if err != nil {
		return err
	}
	got.fill(y, before.since(s))
	t.readings = append(t.readings, got)
	t.note(got)
	return nil
}

// generate runs the generator as a process on some cores.
func (t *track) generate(ctx context.Context, cores string, e Errand) (*Yield, error) {
	ctx, cancel := context.WithTimeout(ctx, e.Warm+e.Length+time.Minute)
	defer cancel()
	path, args := t.pin(cores, t.self, "rps-load")
	return runGenerator[Yield](ctx, path, args, e)
}

// members are a process and those that it has started, such as nginx's workers.
func members(p *process) []int {
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		if group, _, ok := parseProcess(stat); ok && group == p.cmd.Process.Pid {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name))) // digits
			pids = append(pids, pid)
		}
	}
	return pids
}

func joinNumbers(numbers []int) string {
	var words []string
	for _, n := range numbers {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, ",")
}

// loadAverages are of 1, 5 and 15 minutes; empty is unknown.
func loadAverages() string {
	text, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	return strings.Join(fields[:min(len(fields), 3)], " ")
}

// writeCertificate makes one for 127.0.0.1 that signs itself: cert.pem, key.pem,
// and both.pem with the two, which HAProxy wants.
func writeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "portner bench"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "cert.pem"), certPEM, 0o644),
		os.WriteFile(filepath.Join(dir, "key.pem"), keyPEM, 0o600),
		os.WriteFile(filepath.Join(dir, "both.pem"), slices.Concat(certPEM, keyPEM), 0o600))
}
