package deploy_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
)

func TestPostgresIsStartedByItsProfileAlone(t *testing.T) {
	if _, ok := load(t).Services["postgres"]; ok {
		t.Error("it is started without --profile postgres")
	}
	if s := service(t, whole(t), "postgres"); !slices.Equal(s.Profiles, []string{"postgres"}) {
		t.Errorf("its profiles are %v", s.Profiles)
	}
}

func TestPostgresIsOneVersionAndReachedByTheApplicationAlone(t *testing.T) {
	project := whole(t)
	s := service(t, project, "postgres")
	if !regexp.MustCompile(`^postgres:\d+\.\d+$`).MatchString(s.Image) || s.Build != nil {
		t.Errorf("the image is %q", s.Image)
	}
	if len(s.Ports) > 0 || len(s.Expose) > 0 {
		t.Errorf("ports %v", s.Ports)
	}
	for network := range s.Networks {
		if !project.Networks[network].Internal {
			t.Errorf("its network %s leads outside", network)
		}
		for name, other := range project.Services {
			if _, ok := other.Networks[network]; ok && name != "postgres" && name != "webapp" {
				t.Errorf("%s can reach it over %s", name, network)
			}
		}
	}
	if s.StopSignal != "SIGINT" {
		t.Errorf("%s waits for the application to close its connections", s.StopSignal)
	}
}

// A password in an environment is in every listing of processes and in every
// report of a crash.
func TestPasswordsComeFromFiles(t *testing.T) {
	const password, address = "/somewhere/password", "/somewhere/address"
	project := whole(t, "WEBAPP_DB=", "DATABASE_URL_FILE="+address, "POSTGRES_PASSWORD_FILE="+password)
	for name, s := range project.Services {
		for variable, value := range s.Environment {
			secret := strings.Contains(variable, "PASSWORD") || strings.Contains(variable, "DATABASE_URL")
			if secret && (!strings.HasSuffix(variable, "_FILE") || value == nil || !strings.HasPrefix(*value, "/run/secrets/")) {
				t.Errorf("%s: %s is no file of a secret", name, variable)
			}
		}
	}
	for name, want := range map[string]struct{ secret, file string }{"webapp": {"database_url", address}, "postgres": {"postgres_password", password}} {
		held := service(t, project, name).Secrets
		if len(held) != 1 || held[0].Source != want.secret || project.Secrets[want.secret].File != want.file {
			t.Errorf("%s holds %+v, from %q", name, held, project.Secrets[want.secret].File)
		}
	}
	if db := service(t, project, "webapp").Environment["WEBAPP_DB"]; db == nil || *db != "" {
		t.Error("the application goes on with SQLite")
	}
	if file := load(t).Secrets["database_url"].File; file != "/dev/null" {
		t.Errorf("without the profile the application wants the file %s", file)
	}
}

func TestApplicationWaitsForPostgresWhereThereIsOne(t *testing.T) {
	for _, p := range []*types.Project{load(t), whole(t)} {
		on, ok := service(t, p, "webapp").DependsOn["postgres"]
		_, there := p.Services["postgres"]
		if there && (!ok || on.Condition != types.ServiceConditionHealthy) || ok && on.Required {
			t.Errorf("with PostgreSQL %t: it waits %t, for %+v", there, ok, on)
		}
	}
	check := service(t, whole(t), "postgres").HealthCheck.Test
	if !slices.Contains(check, "127.0.0.1") { // the socket answers while the volume is being prepared
		t.Errorf("the check is %v", check)
	}
}

// The application's role owns its database and is no superuser, which the
// image would make of it.
func TestPostgresRoleHasLeastRights(t *testing.T) {
	s := service(t, whole(t), "postgres")
	for _, variable := range []string{"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD", "POSTGRES_HOST_AUTH_METHOD"} {
		if s.Environment[variable] != nil {
			t.Errorf("%s is set", variable)
		}
	}
	i := slices.IndexFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool {
		return strings.HasPrefix(v.Target, "/docker-entrypoint-initdb.d/")
	})
	if i < 0 {
		t.Fatal("nothing prepares the volume")
	}
	info, err := os.Stat(s.Volumes[i].Source)
	if err != nil || info.Mode()&0o111 == 0 {
		t.Fatalf("%v, %v", info, err)
	}
	script := read(t, "deploy/"+info.Name())
	for _, want := range []string{"NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION", "OWNER news", "FROM PUBLIC", "ALTER ROLE postgres PASSWORD NULL", "cat /run/secrets/postgres_password"} {
		if !strings.Contains(script, want) {
			t.Errorf("%s says nothing of %q", info.Name(), want)
		}
	}
	if want := fmt.Sprintf("-U %s -d %s", "news", "news"); !strings.Contains(strings.Join(s.HealthCheck.Test, " "), want) {
		t.Errorf("the check is %v", s.HealthCheck.Test)
	}
}
