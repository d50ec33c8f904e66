package caddymodule_test

import (
	"strings"
	"testing"
)

func TestWordsForTheJournalsFolder(t *testing.T) {
	const kept = "name a\nroute POST /a {\n journal\n}\n"
	for lines, want := range map[string][]string{
		"journal_dir /d":                         {`"journal_dir":"/d"`},
		"journal_dir /d {\n key_file /k\n}":      {`"journal_dir":"/d"`, `"journal_key_file":"/k"`},
		"journal_dir {\n key_file /etc/a.key\n}": {`"journal_key_file":"/etc/a.key"`},
	} {
		cfg, _, err := adapt("Caddyfile", site(kept+lines))
		if err != nil {
			t.Errorf("%q: %v", lines, err)
		}
		for _, w := range want {
			if !strings.Contains(string(cfg), w) {
				t.Errorf("%q: %s is not in %s", lines, w, cfg)
			}
		}
	}
	for lines, want := range map[string]string{
		"journal_dir":                                     "app_proxy: journal_dir: expected a folder, at Caddyfile:7",
		"journal_dir {\n}":                                "app_proxy: journal_dir: expected a folder, at Caddyfile:8",
		"journal_dir /d /e":                               "app_proxy: journal_dir: unexpected '/e', at Caddyfile:7",
		"journal_dir /d {\n key_file\n}":                  "app_proxy: journal_dir key_file: expected a file, at Caddyfile:8",
		"journal_dir /d {\n key_file /k /l\n}":            "app_proxy: journal_dir key_file: unexpected '/l', at Caddyfile:8",
		"journal_dir /d {\n key /k\n}":                    "app_proxy: journal_dir: unknown word 'key'; expected key_file, at Caddyfile:8",
		"journal_dir /d {\n key_file /k\n key_file /k\n}": "app_proxy: journal_dir: key_file is said twice, at Caddyfile:9",
	} {
		if _, _, err := adapt("Caddyfile", site(kept+lines)); err == nil || !strings.Contains(plain(err), want) {
			t.Errorf("%q:\n got %v\nwant %s", lines, err, want)
		}
	}
}

func TestTwoHandlersOfAPoolAgreeOnItsKey(t *testing.T) {
	lines := "name a\nroute POST /a {\n journal\n}\njournal_dir /d"
	text := strings.TrimSuffix(strings.TrimSpace(site(lines)), "}") + "app_proxy 127.0.0.1:1 {\n" + lines + " {\n key_file /k\n}\n}\n}"
	if _, _, err := adapt("Caddyfile", text); err == nil || !strings.Contains(err.Error(), "other settings") {
		t.Errorf("%v", err)
	}
}

// The pool's journal is that of either handler, also of one that has a cache too.
func TestJournalOfTheSecondHandlerOfAPoolIsOpened(t *testing.T) {
	a := newTaker(t)
	words := journalled(t, a, "respond 200")
	name, dir := strings.ToLower(t.Name()), dirOf(words)
	first := "app_proxy " + a.addr + " {\n name " + name + "\n concurrency 2\n journal_dir " + dir + "\n route POST /other {\n journal\n }\n}"
	second := strings.Replace(words, "route GET /status {", "route GET /page {\n cache 1s\n }\n route GET /status {", 1)
	d := open(t, "handle /other {\n"+first+"\n}\nhandle {\n"+second+"\n}")
	if res, text := d.post(t, "x"); res.StatusCode != 200 {
		t.Errorf("%d %s", res.StatusCode, text)
	}
}
