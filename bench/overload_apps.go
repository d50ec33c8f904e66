package main

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// An application of the lab takes one request at a time in each worker.
type application struct {
	name    string
	about   string
	workers int
	sleeps  bool          // belongs to the scenario auto alone
	alone   string        // the same with one worker, where that is another
	missing func() string // why it cannot be measured, or nothing; nil is nothing
	start   func(l *lab, s *stage) (*process, error)
}

func (a application) called() string { return a.name }

var applications = []application{
	builtin("builtin-1", 1, 0),
	builtin("builtin-2", 2, 0),
	{name: "flask", about: "examples/flask, development server --without-threads", workers: 1, missing: needs("flask"), start: startFlask},
	gunicorn("gunicorn-1", 1),
	gunicorn("gunicorn-2", 2),
	builtin("sleep-1", 1, 20*time.Millisecond),
	builtin("sleep-2", 2, 20*time.Millisecond),
	builtin("sleep-4", 4, 20*time.Millisecond),
	builtin("sleep-32", 32, 20*time.Millisecond),
}

func findApp(name string) application {
	for _, app := range applications {
		if app.name == name {
			return app
		}
	}
	panic("the lab has no application " + name)
}

// builtin uses 3 ms of CPU for a page, or sleeps.
func builtin(name string, workers int, sleep time.Duration) application {
	about := fmt.Sprintf("built in, %d workers, 3 ms of CPU", workers)
	if sleep > 0 {
		about = fmt.Sprintf("built in, %d workers, %v of sleep", workers, sleep)
	}
	return application{name: name, about: about, workers: workers, sleeps: sleep > 0, alone: "builtin-1", start: func(l *lab, s *stage) (*process, error) {
		turns := l.turns
		if sleep > 0 {
			turns = 0
		}
		return l.startOn(l.back, s.dir, "application", nil, l.self, "overload-app", "-listen", s.address, "-control", s.control,
			"-workers", strconv.Itoa(workers), "-turns", strconv.Itoa(turns), "-sleep", sleep.String())
	}}
}

func startFlask(l *lab, s *stage) (*process, error) {
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		return nil, err
	}
	return l.startOn(l.back, s.dir, "flask", nil, pythonWith("flask"),
		"-m", "flask", "--app", flaskApp(l), "run", "--host", host, "--port", port, "--without-threads")
}

func gunicorn(name string, workers int) application {
	return application{
		name: name, about: "examples/flask, gunicorn -w " + strconv.Itoa(workers), workers: workers, alone: "gunicorn-1",
		missing: needs("flask", "gunicorn"),
		start: func(l *lab, s *stage) (*process, error) {
			return l.startOn(l.back, s.dir, "gunicorn", nil, pythonWith("flask", "gunicorn"),
				"-m", "gunicorn", "-w", strconv.Itoa(workers), "-b", s.address, "--chdir", filepath.Dir(flaskApp(l)), "app:app")
		},
	}
}

func flaskApp(l *lab) string { return filepath.Join(l.root, "examples", "flask", "app.py") }

func needs(modules ...string) func() string {
	return func() string {
		if pythonWith(modules...) == "" {
			return "no python3 has " + modules[len(modules)-1] + " (apt-get install python3-flask gunicorn)"
		}
		return ""
	}
}

// pythonWith finds a Python that has all modules. The first in PATH may be a
// private one, and the system's packages are in the other.
func pythonWith(modules ...string) string {
	var imports string
	for _, module := range modules {
		imports += "import " + module + "\n"
	}
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		path, err := exec.LookPath(python)
		if err == nil && exec.Command(path, "-c", imports).Run() == nil {
			return path
		}
	}
	return ""
}
