package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

func TestMadeUpItemsHaveTheNatureOfRealOnes(t *testing.T) {
	items := makeItems(1000)
	if !reflect.DeepEqual(items, makeItems(1000)) {
		t.Error("two calls make different items")
	}
	stories, controls, foreign, deep := 0, 0, 0, 0
	depth := map[int]int{}
	for i, item := range items {
		if item.ID != i+1 || item.Parent >= item.ID {
			t.Fatalf("item %d stands at %d and answers %d", item.ID, i, item.Parent)
		}
		depth[item.ID] = depth[item.Parent] + 1
		deep = max(deep, depth[item.ID])
		if item.Type == "story" {
			stories++
		}
		if strings.ContainsFunc(item.Text, unicode.IsControl) {
			controls++
		}
		if strings.ContainsFunc(item.Text, func(r rune) bool { return r > unicode.MaxASCII }) {
			foreign++
		}
		if telltale(item) == "" {
			t.Errorf("item %d has no word to know it by", item.ID)
		}
		var sent Item
		if err := json.Unmarshal(item.Sent, &sent); err != nil || sent.Text != item.Text {
			t.Errorf("item %d is sent as %s (%v)", item.ID, item.Sent, err)
		}
	}
	if stories < 300 || stories > 600 || controls < 100 || foreign < 8 || deep < deepest {
		t.Errorf("got %d stories, %d with control characters, %d not ASCII, depth %d", stories, controls, foreign, deep)
	}
}

func TestItemsOfAFileAreSentByteForByte(t *testing.T) {
	line := `{ "hanesst_id" : 7, "post_type":"comment","post_parent":-1,"post_text":"a\u0009\u2028" }`
	path := filepath.Join(t.TempDir(), "posts.jsonl")
	if err := os.WriteFile(path, []byte(line+"\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	items, source, err := loadItems(path, "", 10)
	if err != nil || len(items) != 1 {
		t.Fatalf("got %v, %v", items, err)
	}
	if !bytes.Equal(items[0].Sent, []byte(line)) || items[0].Text != "a\t\u2028" {
		t.Errorf("got %q, to be sent as %s", items[0].Text, items[0].Sent)
	}
	if !strings.Contains(source, path) {
		t.Errorf("source %q does not name the file", source)
	}
}

func TestWithoutAFileItemsAreMadeUpAndSaidToBe(t *testing.T) {
	items, source, err := loadItems("", t.TempDir(), 12)
	if err != nil || len(items) != 12 || !strings.Contains(source, "made-up") {
		t.Errorf("got %d items from %q, %v", len(items), source, err)
	}
}

func TestBrokenFilesOfItemsAreRefused(t *testing.T) {
	for name, content := range map[string]string{"empty": "\n", "not JSON": "{\"hanesst_id\":1}\nid 2\n"} {
		path := filepath.Join(t.TempDir(), "posts.jsonl")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if items, err := readItems(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, %v", name, items, err)
		}
	}
}

func TestThreadsHaveTheirTopmostItemAsHead(t *testing.T) {
	got := headOf([]Item{
		{ID: 1, Parent: -1}, {ID: 2, Parent: 1}, {ID: 3, Parent: 2},
		{ID: 4, Parent: 99},                    // whose parent nobody posted
		{ID: 5, Parent: 6}, {ID: 6, Parent: 5}, // nobody's idea of a thread; must end
	})
	for id, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 4} {
		if got[id] != want {
			t.Errorf("head of %d is %d, want %d", id, got[id], want)
		}
	}
}
