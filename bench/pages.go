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
	Missing  []int `json:"missing,omitempty"`  // without a page, or not in their thread
	Repeated []int `json:"repeated,omitempty"` // more than once in their thread
	Wrong    []int `json:"wrong,omitempty"`    // their page fails, or does not show what was posted
}

// bad are the ids of all items with something wrong, each once.
func (f Findings) bad() []int {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(f.Missing, f.Repeated, f.Wrong))))
}

func (f Findings) none() bool {
	return len(f.bad()) == 0
}

// inspect looks for every item twice: on its own page, which must show what was
// posted, and on the pages of its thread, where it must stand exactly once.
func inspect(ctx context.Context, client *http.Client, url string, items []Item, tick func()) (Findings, error) {
	var f Findings
	var there []Item
	for _, item := range items {
		tick()
		status, page, err := get(client, fmt.Sprintf("%s/item/%d", url, item.ID))
		switch {
		case err != nil:
			return f, err
		case ctx.Err() != nil:
			return f, ctx.Err()
		case status == http.StatusNotFound:
			f.Missing = append(f.Missing, item.ID)
			continue // what answers it heads a thread of its own
		case status != http.StatusOK || !shows(page, item):
			f.Wrong = append(f.Wrong, item.ID)
		}
		there = append(there, item)
	}

	heads := slices.Sorted(maps.Values(headOf(there)))
	seen := make(map[int]int, len(there))
	for _, head := range slices.Compact(heads) {
		if err := tally(ctx, client, url, head, seen); err != nil {
			return f, err
		}
	}
	for _, item := range there {
		switch {
		case seen[item.ID] == 0:
			f.Missing = append(f.Missing, item.ID)
		case seen[item.ID] > 1:
			f.Repeated = append(f.Repeated, item.ID)
		}
	}
	slices.Sort(f.Missing)
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
