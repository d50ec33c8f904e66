package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/portner/portner/caddymodule"
)

// inBlocks are the words that are said within others.
var inBlocks = map[string][]string{
	"queue":    {"wait", "depth", "fair_by"},
	"buffer":   {"request", "response", "min_rate"},
	"timeouts": {"connect", "first_byte", "whole", "abandon"},
	"cache":    nil, // explained in one entry with what is in them
	"class":    nil,
	"route":    nil,
}

func TestEveryWordIsExplained(t *testing.T) {
	text, err := os.ReadFile("../docs/caddyfile.md")
	if err != nil {
		t.Fatal(err)
	}
	entries := make(map[string]string)
	for _, block := range regexp.MustCompile("(?s)```\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for entry := range strings.SplitSeq(block[1], "\n\n") {
			word, _, _ := strings.Cut(entry, " ")
			entries[word] = entry
		}
	}
	var want []string
	for _, word := range caddymodule.Words() {
		if inside, ok := inBlocks[word]; ok && inside != nil {
			want = append(want, inside...)
		} else {
			want = append(want, word)
		}
	}
	for _, word := range want {
		entry, ok := entries[word]
		if !ok {
			t.Errorf("%s has no entry in docs/caddyfile.md", word)
			continue
		}
		delete(entries, word)
		for _, part := range []string{"Where:", "Default:", "Effect:", "Watch:"} {
			if !strings.Contains(entry, part) {
				t.Errorf("%s: the entry has no %q", word, part)
			}
		}
	}
	for word := range entries {
		t.Errorf("%s is explained, and no word", word)
	}
}

// TestWordsInBlocksAreThoseThatAreExplained asks the parser which words it expects.
func TestWordsInBlocksAreThoseThatAreExplained(t *testing.T) {
	for block, inside := range inBlocks {
		if inside == nil {
			continue
		}
		_, _, err := adapt("Caddyfile", site(block+" {\n no_such_word\n}"))
		slices.Sort(inside)
		if want := "expected " + strings.Join(inside, ", ") + ", at "; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", block, err, want)
		}
	}
}

func TestJSONOfTheDocumentationIsValid(t *testing.T) {
	text, err := os.ReadFile("../docs/caddyfile.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(examples) == 0 {
		t.Fatal("there is none")
	}
	for _, example := range examples {
		config := fmt.Sprintf(`{"admin": {"disabled": true}, "apps": {"http": {"servers": {"x": {"listen": ["127.0.0.1:1"], "routes": [{"handle": [%s]}]}}}}}`, example[1])
		var cfg caddy.Config
		if err := json.Unmarshal([]byte(config), &cfg); err != nil {
			t.Fatal(err)
		}
		cfg.Logging = quiet
		if err := caddy.Validate(&cfg); err != nil {
			t.Error(err)
		}
	}
}

// An increase of what goes up and down is a number that means nothing.
func TestAlarmsAskForWhatThereIs(t *testing.T) {
	text, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	a := newTaker(t)
	a.start(t)
	d := open(t, journalled(t, a, "answer_within 10s")+"\nmetrics /metrics")
	d.post(t, "x")
	_, told := d.get("/metrics")
	exprs := regexp.MustCompile(`expr: (.*)`).FindAllStringSubmatch(string(text), -1)
	if len(exprs) == 0 {
		t.Fatal("there are no alarms")
	}
	for _, expr := range exprs {
		for _, use := range regexp.MustCompile(`((?:increase|rate)\()?(portner_\w+)(?:\{(\w+)=~"([^"]+)"\})?`).FindAllStringSubmatch(expr[1], -1) {
			name, label, values := strings.TrimSuffix(use[2], "_bucket"), use[3], strings.Split(use[4], "|")
			kind := regexp.MustCompile(`# TYPE ` + name + ` (\w+)`).FindStringSubmatch(told)
			switch {
			case kind == nil:
				t.Errorf("%s: there is no %s", expr[1], name)
			case use[1] != "" && kind[1] == "gauge":
				t.Errorf("%s: %s is a gauge", expr[1], name)
			}
			for _, value := range values {
				if label != "" && !regexp.MustCompile(name+`\{.*`+label+`="`+value+`"`).MatchString(told) {
					t.Errorf("%s: %s has no %s %s", expr[1], name, label, value)
				}
			}
		}
	}
}
