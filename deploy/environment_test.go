package deploy_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// names are the different words of a text that match.
func names(pattern, text string) []string {
	found := regexp.MustCompile(pattern).FindAllString(text, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

// Whatever the application can be told by its environment can be told to its
// container, and stands in the documentation.
func TestEveryVariableOfTheApplicationReachesIt(t *testing.T) {
	docs := read(t, "docs/deploy.md")
	known := names(`WEBAPP_[A-Z]+`, read(t, "webapp/config.go"))
	if len(known) < 6 {
		t.Fatalf("the application knows %q", known)
	}
	for _, name := range known {
		const said = "said"
		got := service(t, load(t, name+"="+said), "webapp").Environment[name]
		switch {
		case got == nil:
			t.Errorf("%s does not reach the container", name)
		case *got != said && name != "WEBAPP_LISTEN": // Caddy and the health check know where
			t.Errorf("%s=%s becomes %q", name, said, *got)
		}
		if !strings.Contains(docs, "`"+name+"`") {
			t.Errorf("docs/deploy.md does not say what %s is", name)
		}
	}
	if env := service(t, load(t), "webapp").Environment; *env["WEBAPP_URL"] != "" || *env["WEBAPP_DB"] != "/data/news.db" {
		t.Errorf("without a word: %q, %q", *env["WEBAPP_URL"], *env["WEBAPP_DB"])
	}
}

// What the Caddyfile asks of its environment is given by docker-compose.yml or
// has a default, and every variable of docker-compose.yml is explained.
func TestEveryVariableIsExplained(t *testing.T) {
	env := service(t, load(t), "caddy").Environment
	for _, name := range regexp.MustCompile(`\{\$(\w+)(:?)`).FindAllStringSubmatch(read(t, "Caddyfile"), -1) {
		if _, given := env[name[1]]; !given && name[2] == "" {
			t.Errorf("the Caddyfile asks for %s, which nobody sets", name[1])
		}
	}
	docs := read(t, "docs/deploy.md")
	for _, name := range names(`\$\{\w+`, read(t, "docker-compose.yml")) {
		if name = strings.TrimPrefix(name, "${"); !strings.Contains(docs, "`"+name+"`") {
			t.Errorf("docs/deploy.md does not say what %s is", name)
		}
	}
}
