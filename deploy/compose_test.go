// Package deploy_test checks docker-compose.yml and the Dockerfiles for what
// docs/deploy.md promises. It reads them; it runs no containers.
package deploy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const root = ".."

// load reads docker-compose.yml as `docker compose` does, with this
// environment alone: no .env file of whoever runs the test.
func load(t *testing.T, env ...string) *types.Project {
	t.Helper()
	return loadWith(t, nil, env...)
}

// whole is everything that can be started, with all profiles.
func whole(t *testing.T, env ...string) *types.Project {
	t.Helper()
	return loadWith(t, []string{"*"}, env...)
}

func loadWith(t *testing.T, profiles []string, env ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")},
		cli.WithWorkingDirectory(root), cli.WithEnv(env), cli.WithProfiles(profiles))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func service(t *testing.T, p *types.Project, name string) types.ServiceConfig {
	t.Helper()
	s, err := p.GetService(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBothHalvesAreServices(t *testing.T) {
	names := load(t).ServiceNames()
	slices.Sort(names)
	if want := []string{"caddy", "webapp"}; !slices.Equal(names, want) {
		t.Errorf("services are %v, want %v", names, want)
	}
}

func TestServicesHaveNoMoreRightsThanTheyNeed(t *testing.T) {
	for name, s := range whole(t).Services {
		if user, _, _ := strings.Cut(s.User, ":"); user == "" || user == "root" || user == "0" {
			t.Errorf("%s: runs as user %q", name, s.User)
		}
		if !s.ReadOnly {
			t.Errorf("%s: its root file system can be written to", name)
		}
		if s.Privileged || len(s.CapAdd) > 0 || !slices.Equal(s.CapDrop, []string{"ALL"}) {
			t.Errorf("%s: privileged %t, capabilities +%v -%v", name, s.Privileged, s.CapAdd, s.CapDrop)
		}
		if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s: a program may gain rights: %v", name, s.SecurityOpt)
		}
		if s.NetworkMode != "" || s.Pid != "" || s.Ipc != "" {
			t.Errorf("%s: shares a namespace with the host", name)
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind && !v.ReadOnly {
				t.Errorf("%s: can write to the host's %s", name, v.Source)
			}
		}
	}
}

func TestServicesSayWhetherTheyAreWell(t *testing.T) {
	for name, s := range whole(t).Services {
		check := s.HealthCheck
		if check == nil || check.Disable || len(check.Test) < 2 {
			t.Errorf("%s: no health check", name)
			continue
		}
		if check.Test[0] != "CMD" {
			t.Errorf("%s: %v needs a shell, and the image has none", name, check.Test)
		}
		if *check.Timeout > *check.Interval {
			t.Errorf("%s: a check may take %v, and comes every %v", name, check.Timeout, check.Interval)
		}
		if s.Build != nil && !strings.Contains(dockerfile(t, s), filepath.Base(check.Test[1])) {
			t.Errorf("%s: %s is not in the image", name, check.Test[1])
		}
	}
}

func TestWhatMustSurviveIsOnVolumes(t *testing.T) {
	project := whole(t)
	for name, want := range map[string]struct{ volume, at string }{
		"caddy": {"caddy_data", "/data"}, "webapp": {"news_data", "/data"}, "postgres": {"postgres_data", "/var/lib/postgresql/data"},
	} {
		s := service(t, project, name)
		i := slices.IndexFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == want.at })
		if i < 0 || s.Volumes[i].Type != types.VolumeTypeVolume || s.Volumes[i].Source != want.volume {
			t.Errorf("%s: %s is not the volume %s: %+v", name, want.at, want.volume, s.Volumes)
		}
		if _, ok := project.Volumes[want.volume]; !ok {
			t.Errorf("there is no volume %s", want.volume)
		}
	}
	image := dockerfile(t, service(t, project, "caddy"))
	if !strings.Contains(image, "XDG_DATA_HOME=/data") {
		t.Error("Caddy does not keep its certificates on its volume")
	}
	if db := service(t, project, "webapp").Environment["WEBAPP_DB"]; db == nil || !strings.HasPrefix(*db, "/data/") {
		t.Error("the application does not keep its database on its volume")
	}
}

func TestCaddyUsesTheRepositorysCaddyfile(t *testing.T) {
	s := service(t, load(t), "caddy")
	i := slices.IndexFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == "/etc/caddy/Caddyfile" })
	if i < 0 {
		t.Fatal("there is no Caddyfile")
	}
	mounted, err := os.Stat(s.Volumes[i].Source)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := os.Stat(filepath.Join(root, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(mounted, ours) {
		t.Errorf("%s is mounted", s.Volumes[i].Source)
	}
}

// A copy of the application must not own anything of which there is one.
func TestTheApplicationScales(t *testing.T) {
	project := load(t)
	scaled, err := project.WithServicesTransform(func(name string, s types.ServiceConfig) (types.ServiceConfig, error) {
		if name == "webapp" {
			s.SetScale(3)
		}
		return s, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	copies := service(t, scaled, "webapp")
	if got := copies.GetScale(); got != 3 {
		t.Errorf("scaled to %d, want 3", got)
	}
	webapp, caddy := service(t, project, "webapp"), service(t, project, "caddy")
	if webapp.ContainerName != "" || webapp.Hostname != "" || len(webapp.Ports) > 0 {
		t.Errorf("one copy only: container_name %q, hostname %q, ports %v", webapp.ContainerName, webapp.Hostname, webapp.Ports)
	}
	for name, want := range map[string]string{"UPSTREAM_BY": "dns", "UPSTREAM_HOST": "webapp", "UPSTREAM_PORT": "5001"} {
		if got := caddy.Environment[name]; got == nil || *got != want {
			t.Errorf("Caddy's %s is not %q", name, want)
		}
	}
	if listen := webapp.Environment["WEBAPP_LISTEN"]; listen == nil || *listen != ":5001" {
		t.Error("the application does not listen where Caddy looks for it")
	}
}

func TestTheApplicationIsReachedThroughCaddyAlone(t *testing.T) {
	project := load(t)
	webapp, caddy := service(t, project, "webapp"), service(t, project, "caddy")
	shared := 0
	for name := range webapp.Networks {
		if !project.Networks[name].Internal {
			t.Errorf("the application's network %s leads outside", name)
		}
		if _, ok := caddy.Networks[name]; ok {
			shared++
		}
	}
	if shared != 1 || len(caddy.Networks) != 2 {
		t.Errorf("Caddy is on %v, the application on %v", caddy.Networks, webapp.Networks)
	}
}

func TestPublishedPorts(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
		site string
		want []string
	}{
		{"local", nil, "https://localhost:8443", []string{"8080:8080/tcp", "8443:8443/tcp", "8443:8443/udp"}},
		{"public", []string{"SITE_ADDRESS=news.example.com", "HTTP_PORT=80", "HTTPS_PORT=443"},
			"news.example.com", []string{"80:80/tcp", "443:443/tcp", "443:443/udp"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			caddy := service(t, load(t, c.env...), "caddy")
			var got []string
			for _, p := range caddy.Ports {
				got = append(got, fmt.Sprintf("%s:%d/%s", p.Published, p.Target, p.Protocol))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("ports are %v, want %v", got, c.want)
			}
			if site := caddy.Environment["SITE_ADDRESS"]; site == nil || *site != c.site {
				t.Errorf("the site is %v, want %s", site, c.site)
			}
			// The health check asks the port at which Caddy answers.
			plain, _, _ := strings.Cut(c.want[0], ":")
			if port := caddy.Environment["HTTP_PORT"]; port == nil || *port != plain {
				t.Errorf("Caddy's HTTP_PORT is %v, want %s", port, plain)
			}
			if url := caddy.HealthCheck.Test[2]; url != "http://127.0.0.1:"+plain+"/" {
				t.Errorf("the health check asks %s", url)
			}
			if caddy.Sysctls["net.ipv4.ip_unprivileged_port_start"] != "0" {
				t.Error("without root Caddy cannot have a port below 1024")
			}
		})
	}
}

// What runs gets the time it needs to end, and Caddy ends first.
func TestStopIsOrderly(t *testing.T) {
	project := load(t)
	caddy, webapp := service(t, project, "caddy"), service(t, project, "webapp")
	caddyfile := read(t, "Caddyfile")
	match := regexp.MustCompile(`(?m)^\tgrace_period (\S+)$`).FindStringSubmatch(caddyfile)
	if match == nil {
		t.Fatal("the Caddyfile has no grace_period")
	}
	grace, err := time.ParseDuration(match[1])
	if err != nil {
		t.Fatal(err)
	}
	if caddy.StopGracePeriod == nil || time.Duration(*caddy.StopGracePeriod) <= grace {
		t.Errorf("Caddy may take %v to stop, its grace_period is %v", caddy.StopGracePeriod, grace)
	}
	if webapp.StopGracePeriod == nil || time.Duration(*webapp.StopGracePeriod) <= 20*time.Second {
		t.Errorf("the application may take %v to stop, it gives its requests 20s", webapp.StopGracePeriod)
	}
	if _, ok := caddy.DependsOn["webapp"]; !ok {
		t.Error("Caddy does not stop before the application")
	}
}

func TestLogsAreBounded(t *testing.T) {
	for name, s := range whole(t).Services {
		if s.Logging == nil || s.Logging.Options["max-size"] == "" || s.Logging.Options["max-file"] == "" {
			t.Errorf("%s: its log grows for ever", name)
		}
	}
}

func TestImagesAreBuiltHere(t *testing.T) {
	for name, s := range load(t).Services {
		if s.Build == nil || s.Image != "" {
			t.Errorf("%s: comes from a registry", name)
			continue
		}
		image := dockerfile(t, s)
		stages := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(image, -1)
		if len(stages) != 2 || stages[1][1] != "scratch" {
			t.Errorf("%s: stages are %v, want a build and scratch", name, stages)
		}
		if base := regexp.MustCompile(`^golang:\d+\.\d+\.\d+$`); !base.MatchString(stages[0][1]) {
			t.Errorf("%s: %s is not pinned to one version of Go", name, stages[0][1])
		}
		if !strings.Contains(image, "\nUSER "+s.User+"\n") {
			t.Errorf("%s: the image's user is not the service's %s", name, s.User)
		}
		if !strings.Contains(image, "CGO_ENABLED=0") {
			t.Errorf("%s: scratch has no C library", name)
		}
	}
	if caddy := dockerfile(t, service(t, load(t), "caddy")); !strings.Contains(caddy, "./xcaddy.sh") {
		t.Error("Caddy's image is not built by xcaddy.sh")
	}
}

// The Go of the images must be able to build the module: its go line is a minimum.
func TestImagesHaveAGoThatIsNewEnough(t *testing.T) {
	want := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(read(t, "go.mod"))[1]
	for name, s := range load(t).Services {
		have := regexp.MustCompile(`(?m)^FROM golang:(\S+)`).FindStringSubmatch(dockerfile(t, s))[1]
		if older(have, want) {
			t.Errorf("%s: built with Go %s, go.mod wants %s", name, have, want)
		}
	}
}

func older(have, want string) bool {
	number := func(v string) (n [3]int) {
		fmt.Sscanf(v, "%d.%d.%d", &n[0], &n[1], &n[2])
		return n
	}
	h, w := number(have), number(want)
	return slices.Compare(h[:], w[:]) < 0
}

// Nothing that is private or large goes to the builder.
func TestTheBuilderGetsNoPrivateFiles(t *testing.T) {
	ignored := strings.Split(read(t, ".dockerignore"), "\n")
	for _, name := range []string{".git", ".data", ".env", "bin", "secrets"} {
		if !slices.Contains(ignored, name) {
			t.Errorf("%s is sent to the builder", name)
		}
	}
}

func dockerfile(t *testing.T, s types.ServiceConfig) string {
	t.Helper()
	if s.Build == nil || !filepath.IsAbs(s.Build.Context) {
		t.Fatalf("%s has no build context", s.Name)
	}
	content, err := os.ReadFile(filepath.Join(s.Build.Context, s.Build.Dockerfile))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
