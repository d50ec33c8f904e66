package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The figures are about what these items are like: one thread of a thousand,
// counts that are those of the tree, a word that is rare.
func TestMadeUpCommunityIsWhatItsFiguresSay(t *testing.T) {
	var out bytes.Buffer
	n := newsRun{stories: 600, comments: 11_000, show: newProgress()}
	if err := n.write(&out); err != nil {
		t.Fatal(err)
	}
	n.show.clear()
	type item struct {
		ID, Root, Parent, Replies int
		Kind, Body                string
	}
	items := make(map[int]item)
	below, rare := make(map[int]int), 0
	for dec := json.NewDecoder(&out); ; {
		var r struct{ Item *item }
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if r.Item == nil {
			continue
		}
		it := *r.Item
		items[it.ID] = it
		if strings.Contains(it.Body, "quagga") {
			rare++
		}
		if it.Kind != "comment" {
			continue
		}
		below[it.Root]++
		if up, ok := items[it.Parent]; !ok || up.Root != it.Root {
			t.Fatalf("%+v answers %+v", it, up)
		}
	}
	if len(items) != n.stories+n.comments || items[big].Replies != 1000 || rare < 1 || rare > 3 {
		t.Errorf("%d items, %d answer the first, %d have the rare word", len(items), items[big].Replies, rare)
	}
	for id, it := range items {
		if it.Kind == "story" && it.Replies != below[id] {
			t.Errorf("story %d says %d replies and has %d", id, it.Replies, below[id])
		}
	}
}

// A filled database takes minutes to make, and what is measured writes into it.
func TestWhatIsKeptIsWholeAndACopyIsMeasured(t *testing.T) {
	n := newsRun{stories: 2, comments: 3, keep: filepath.Join(t.TempDir(), "kept")}
	if n.isKept("sqlite") {
		t.Error("kept before it was made")
	}
	filled, copied := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	write := func(dir, words string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "news.db"), []byte(words), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filled, "filled")
	if err := copyFolder(t.Context(), filepath.Join(filled, "none"), n.kept("sqlite")); err == nil || n.isKept("sqlite") {
		t.Errorf("%v; what could not be copied is kept", err)
	}
	for _, way := range [][2]string{{filled, n.kept("sqlite")}, {n.kept("sqlite"), copied}} {
		if err := copyFolder(t.Context(), way[0], way[1]); err != nil {
			t.Fatal(err)
		}
	}
	write(copied, "measured")
	if got, err := os.ReadFile(filepath.Join(n.kept("sqlite"), "news.db")); err != nil || string(got) != "filled" || !n.isKept("sqlite") {
		t.Errorf("%q, %v", got, err)
	}
	larger := newsRun{stories: 2, comments: 4, keep: n.keep}
	if larger.isKept("sqlite") || n.isKept("postgres") {
		t.Error("another database is taken for it")
	}
}
