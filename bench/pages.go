package main

import (
	"context"
	"fmt"
	"html"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Findings are the ids of items that the site does not show as it should.
type Findings struct {
	Missing  []int `json:"missing,omitempty"`  // on no page
	Repeated []int `json:"repeated,omitempty"` // more than once
	Wrong    []int `json:"wrong,omitempty"`    // there, but not what was posted
}

func (f Findings) none() bool {
	return len(f.Missing)+len(f.Repeated)+len(f.Wrong) == 0
}

// inspect looks for every item twice: on the pages of its thread, where it must
// stand exactly once, and on its own page, which must show what was posted.
func inspect(ctx context.Context, client *http.Client, url string, items []Item, tick func()) (Findings, error) {
	var f Findings
	heads := slices.Sorted(maps.Values(headOf(items)))
	seen := make(map[int]int, len(items))
	for _, head := range slices.Compact(heads) {
		if err := tally(ctx, client, url, head, seen); err != nil {
			return f, err
		}
	}
	for _, item := range items {
		tick()
		status, page, err := get(client, fmt.Sprintf("%s/item/%d", url, item.ID))
		switch {
		case err != nil:
			return f, err
		case ctx.Err() != nil:
			return f, ctx.Err()
		case status == http.StatusNotFound || seen[item.ID] == 0:
			f.Missing = append(f.Missing, item.ID)
		case seen[item.ID] > 1:
			f.Repeated = append(f.Repeated, item.ID)
		case status != http.StatusOK || !shows(page, item):
			f.Wrong = append(f.Wrong, item.ID)
		}
	}
	return f, nil
}

// tally counts the items on all pages of one thread. Its head stands on each of
// them and is counted once.
func tally(ctx context.Context, client *http.Client, url string, head int, seen map[int]int) error {
	path := fmt.Sprintf("/item/%d", head)
	for first := true; path != ""; first = false {
		if err := ctx.Err(); err != nil {
			return err
		}
		status, page, err := get(client, url+path)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return nil // its items will be found missing
		}
		for _, id := range idsOn(page) {
			if id != head || first {
				seen[id]++
			}
		}
		path = nextPage(page)
	}
	return nil
}

var (
	itemID   = regexp.MustCompile(`\bid="item-(\d+)"`)
	nextLink = regexp.MustCompile(`<a\b[^>]*\brel="next"[^>]*>`)
	hrefOf   = regexp.MustCompile(`\bhref="([^"]*)"`)
)

func idsOn(page []byte) []int {
	var ids []int
	for _, match := range itemID.FindAllSubmatch(page, -1) {
		id, err := strconv.Atoi(string(match[1]))
		if err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// nextPage is the path that the page names as its next one, or "".
func nextPage(page []byte) string {
	match := hrefOf.FindSubmatch(nextLink.Find(page))
	if match == nil {
		return ""
	}
	return html.UnescapeString(string(match[1]))
}

func shows(page []byte, item Item) bool {
	text := string(page)
	return strings.Contains(text, item.User) && strings.Contains(text, telltale(item))
}
