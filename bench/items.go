package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// An Item is what the simulator posts. Sent is the JSON as it goes over the
// wire: for a file, byte for byte its line.
type Item struct {
	ID     int    `json:"hanesst_id"`
	Type   string `json:"post_type"`
	Parent int    `json:"post_parent"` // -1: none
	User   string `json:"username"`
	Secret string `json:"pwd_hash"`
	Title  string `json:"post_title"`
	URL    string `json:"post_url"`
	Text   string `json:"post_text"`

	Sent []byte `json:"-"`
}

// loadItems reads the given file. With none given it takes the real items
// beside the repository, and where they are not, makes some. source says which.
func loadItems(path, root string, count int) (items []Item, source string, err error) {
	if path == "" {
		path = filepath.Join(root, "..", "shared", "data", "posts.jsonl")
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return makeItems(count), fmt.Sprintf("%d made-up items (no file of real ones here)", count), nil
		}
	}
	items, err = readItems(path)
	if err != nil {
		return nil, "", err
	}
	if len(items) > count {
		items = items[:count]
	}
	return items, fmt.Sprintf("%d items from %s", len(items), path), nil
}

func readItems(path string) ([]Item, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()

	var items []Item
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20) // the largest post the application takes
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		item := Item{Sent: bytes.Clone(lines.Bytes())}
		if err := json.Unmarshal(item.Sent, &item); err != nil {
			return nil, fmt.Errorf("%s: item %d: %w", path, len(items)+1, err)
		}
		items = append(items, item)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: after item %d: %w", path, len(items), err)
	}
	if len(items) == 0 {
		return nil, fmt.Errorf("%s holds no items", path)
	}
	return items, nil
}

// deepest is how deep the deepest thread of made-up items goes; real ones
// among the first thousand reach 7.
const deepest = 60

// makeItems makes items of the real ones' nature, the same on every call: ids
// from 1, parents before their comments, a little less than half of them
// stories, an eighth with control characters, some not ASCII, markup and
// entities, and one thread that goes far down.
func makeItems(count int) []Item {
	rnd := rand.New(rand.NewPCG(1, 2))
	items := make([]Item, count)
	for i := range items {
		item := Item{ID: i + 1, Type: "story", Parent: -1}
		user := rnd.IntN(200)
		item.User = fmt.Sprintf("maker_%d", user)
		item.Secret = fmt.Sprintf("secret%d", user)
		switch {
		case i > 0 && i < deepest:
			item.Type, item.Parent = "comment", i
		case i >= deepest && rnd.IntN(9) < 5:
			item.Type, item.Parent = "comment", 1+rnd.IntN(i)
		}
		if item.Type == "story" {
			item.Title = sentence(rnd, 3+rnd.IntN(8))
			item.URL = fmt.Sprintf("http://example.com/%d?a=1&b=%%C3%%A6#x", item.ID)
		} else {
			item.Text = prose(rnd, i)
		}
		item.Sent = encode(item)
		items[i] = item
	}
	return items
}

// spices are what real texts hold that a careless program trips over. The
// lone \u0092 is a Windows apostrophe that went through Latin-1.
var spices = []string{
	"\n\n", "\t", "\r\n", "\x01\x1f\x7f", "don\u0092t", "\u0085", "smørrebrød", "日本語", "🚪", "e\u0301",
	"<p>", "<i>really</i>", "&#62;&#62; ", "&lt;script&gt;", "<script>alert(1)</script>", `"quoted" \ back`, "\u2028", "http://example.com/a_b?c=d&e=f",
}

func prose(rnd *rand.Rand, i int) string {
	parts := []string{sentence(rnd, 5+rnd.IntN(40))}
	for range rnd.IntN(4) {
		parts = append(parts, spices[rnd.IntN(len(spices))], sentence(rnd, 3+rnd.IntN(60)))
	}
	if i%8 == 0 {
		parts = append(parts, "\n\n", sentence(rnd, 9))
	}
	return strings.Join(parts, " ")
}

var words = strings.Fields(`startup server queue porter door founder money idea users problem hacker lisp design
	simple together nothing customers programming language interesting company because through question answer`)

func sentence(rnd *rand.Rand, n int) string {
	chosen := make([]string, n)
	for i := range chosen {
		chosen[i] = words[rnd.IntN(len(words))]
	}
	return strings.Join(chosen, " ") + "."
}

// encode writes JSON as Python's json.dumps does not: with the characters
// themselves. Both forms are in use and mean the same.
func encode(item Item) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(item); err != nil {
		panic(err) // strings and integers always encode
	}
	return bytes.TrimSpace(b.Bytes())
}

// headOf gives for every id the item that heads its thread.
func headOf(items []Item) map[int]int {
	parent := make(map[int]int, len(items))
	for _, item := range items {
		parent[item.ID] = item.Parent
	}
	heads := make(map[int]int, len(items))
	for _, item := range items {
		id := item.ID
		for range len(items) { // a circle of parents ends here as well
			up := parent[id]
			if _, posted := parent[up]; !posted {
				break
			}
			id = up
		}
		heads[item.ID] = id
	}
	return heads
}

// telltale is the longest plain word of an item: one that every way of showing
// the item has to show. It is "" where there is none.
func telltale(item Item) string {
	shown := item.Text
	if item.Type == "story" {
		shown = item.Title
	}
	longest := ""
	for _, word := range strings.Fields(shown) {
		if plain(word) && len(word) > len(longest) {
			longest = word
		}
	}
	return longest
}

func plain(word string) bool {
	return strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}
