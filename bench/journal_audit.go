package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// A posted item is what its client knows of an item. Times count from one moment for
// all of them.
type posted struct {
	item Item
	sent time.Duration   // when it was sent first
	told time.Duration   // when its client was told that it is taken
	took []time.Duration // of each try
	late int             // tries that were given up
}

// A storedItem is an item as the application has it.
type storedItem struct {
	Seq   int64  `json:"seq"` // order of intake
	ID    int    `json:"id"`
	By    string `json:"by"`
	Title string `json:"title"`
	Body  string `json:"body"`
}

// readStored reads the application's database, with the application's own
// program and without the door.
func readStored(ctx context.Context, b binaries, db string) ([]storedItem, error) {
	cmd := exec.CommandContext(ctx, b.webapp, "export", "-db", db, "-")
	var said bytes.Buffer
	cmd.Stderr = &said
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", cmd.Args, err, bytes.TrimSpace(said.Bytes()))
	}
	var all []storedItem
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var row struct{ Item *storedItem }
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			return nil, fmt.Errorf("export: %w", err)
		}
		if row.Item != nil {
			all = append(all, *row.Item)
		}
	}
	return all, lines.Err()
}

// An Audit compares what clients were told with what the application has.
type Audit struct {
	Accepted int   `json:"accepted"`
	Stored   int   `json:"stored"` // of the accepted ones
	Lost     []int `json:"lost,omitempty"`
	Twice    []int `json:"twice,omitempty"`
	Altered  []int `json:"altered,omitempty"`
	// Disorder are items that the application has before another one whose
	// client had been told that it is taken before these were sent.
	Disorder []int `json:"disorder,omitempty"`
}

// audit looks at all items that clients were told of.
func audit(told []posted, stored []storedItem) Audit {
	a := Audit{Accepted: len(told)}
	byID := make(map[int][]storedItem, len(stored))
	for _, s := range stored {
		byID[s.ID] = append(byID[s.ID], s)
	}
	type place struct {
		posted
		seq int64
	}
	var places []place
	for _, p := range told {
		there := byID[p.item.ID]
		if len(there) == 0 {
			a.Lost = append(a.Lost, p.item.ID)
			continue
		}
		if len(there) > 1 {
			a.Twice = append(a.Twice, p.item.ID)
		}
		if one := there[0]; one.By != p.item.User || !strings.Contains(one.Title+" "+one.Body, telltale(p.item)) {
			a.Altered = append(a.Altered, p.item.ID)
		}
		a.Stored++
		places = append(places, place{p, there[0].Seq})
	}
	slices.SortFunc(places, func(x, y place) int { return int(y.seq - x.seq) }) // last first
	earliest := time.Duration(math.MaxInt64)                                    // told, of those behind
	for _, p := range places {
		if earliest < p.sent {
			a.Disorder = append(a.Disorder, p.item.ID)
		}
		earliest = min(earliest, p.told)
	}
	return a
}

func (a Audit) String() string {
	return fmt.Sprintf("%8d %7d %5d %6d %8d %9d", a.Accepted, a.Stored, len(a.Lost), len(a.Twice), len(a.Altered), len(a.Disorder))
}

const auditHead = "accepted  stored  lost  twice  altered  disorder"

// broken says what does not hold, nil: all does.
func (a Audit) broken() error {
	var all []error
	for _, f := range []struct {
		what string
		ids  []int
	}{{"lost", a.Lost}, {"stored twice", a.Twice}, {"altered", a.Altered}, {"out of order", a.Disorder}} {
		if len(f.ids) > 0 {
			all = append(all, fmt.Errorf("%d %s: %v", len(f.ids), f.what, first(f.ids, 20)))
		}
	}
	return errors.Join(all...)
}

// sum adds the findings of another round.
func (a Audit) sum(b Audit) Audit {
	return Audit{a.Accepted + b.Accepted, a.Stored + b.Stored, append(a.Lost, b.Lost...), append(a.Twice, b.Twice...),
		append(a.Altered, b.Altered...), append(a.Disorder, b.Disorder...)}
}

// triesOf are all tries' times, and how many were given up.
func triesOf(told []posted) (took []time.Duration, late int) {
	for _, p := range told {
		took = append(took, p.took...)
		late += p.late
	}
	return took, late
}
