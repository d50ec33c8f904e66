package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// A DownRow is what came of posting to an application that is not there.
type DownRow struct {
	Audit
	Items     int     `json:"items"`
	Answered  int     `json:"answered"` // 200, in time, at the first try
	Latency   Latency `json:"latency"`
	StartedIn float64 `json:"application_start_seconds"` // from the start of its process until it answered /status itself
	LatestIn  float64 `json:"latest_seconds"`            // from there until /latest was the last item
	Drained   float64 `json:"drained_seconds"`           // from there until the journal was empty
	Latest    string  `json:"latest"`
}

// downItems is how many the course's client posted.
const downItems = 1000

// downScene posts to a door whose application has never been there, as the
// course's client does, and then starts it.
func (l *journalLab) downScene(ctx context.Context) (err error) {
	s, err := l.newSite("", "")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.stop())
		l.forget(s)
	}()
	if err := s.startProxy(ctx); err != nil {
		return err
	}
	items := l.items(downItems)
	row := &DownRow{Items: len(items)}
	told, took := l.postOnce(ctx, s, items)
	row.Answered, row.Latency = len(told), latencyOf(took)
	if err := s.startAndFollow(ctx, row, items[len(items)-1].ID); err != nil {
		return err
	}
	stored, err := readStored(ctx, l.b, s.db)
	if err != nil {
		return err
	}
	row.Audit = audit(told, stored)
	l.result.Down = row
	l.show.clear()
	fmt.Printf("\n%d items one at a time without an application, Connection: close, patience %v\n", row.Items, patience)
	fmt.Printf("200 in time: %d; p50 %.2f ms, p99 %.2f ms, max %.2f ms\n", row.Answered, row.Latency.P50, row.Latency.P99, row.Latency.Max)
	fmt.Printf("application up after %.2f s; then /latest is %s after %.2f s, all delivered after %.2f s\n%s\n%v\n", row.StartedIn, row.Latest, row.LatestIn, row.Drained, auditHead, row.Audit)
	l.promised("down", fmt.Sprintf("all answered 200 in %v, p99 <= 20 ms", patience), row.Answered == row.Items && row.Latency.P99 <= 20,
		"%d of %d, p99 %.2f ms, max %.2f ms", row.Answered, row.Items, row.Latency.P99, row.Latency.Max)
	l.promised("down", fmt.Sprintf("/latest is %d within 5 s of the application's return, each item once", items[len(items)-1].ID), row.LatestIn <= 5 && row.Audit.broken() == nil && len(stored) == row.Items,
		"%.2f s (%.2f s with its start), %d stored; %v", row.LatestIn, row.StartedIn+row.LatestIn, len(stored), row.Audit.broken())
	return l.draw("journal-down", chart{title: "Journal: an application that is not there", note: fmt.Sprintf("%d items one at a time, Connection: close", row.Items),
		rows: [][]panel{{{title: "latency of a post", x: "item", y: "ms", ticks: numbered(len(took)), every: max(1, len(took)/5), wanted: 20, series: []series{{"latency", inMilliseconds(took)}}}}}})
}

// postOnce posts every item once: what is not answered in time is not told.
func (l *journalLab) postOnce(ctx context.Context, s *journalSite, items []Item) (told []posted, took []time.Duration) {
	client := newCourseClient(&s.site, patience)
	start := time.Now()
	for i, item := range items {
		p := posted{item: item, sent: time.Since(start)}
		o := client.post(ctx, item)
		p.told = time.Since(start)
		took = append(took, o.took)
		if o.taken() {
			told = append(told, p)
		}
		l.show.say("down: posted %d of %d", i+1, len(items))
	}
	return told, took
}

// startAndFollow starts the application, and asks itself, not the door, what it
// took in last.
func (s *journalSite) startAndFollow(ctx context.Context, row *DownRow, last int) error {
	began := time.Now()
	if err := s.startApp(ctx); err != nil {
		return err
	}
	up := time.Now()
	row.StartedIn = up.Sub(began).Seconds()
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		status, text, err := get(client, "http://"+s.app+"/latest")
		row.Latest, row.LatestIn = string(text), time.Since(up).Seconds()
		if err == nil && status == http.StatusOK && row.Latest == strconv.Itoa(last) || row.LatestIn > 60 {
			break
		}
		wait(ctx, 5*time.Millisecond)
	}
	drained, err := s.drain(ctx, 60*time.Second)
	row.Drained = row.LatestIn + drained.Seconds()
	if errors.Is(err, errUndelivered) {
		err = nil // what is missing will be counted
	}
	return err
}

func inMilliseconds(all []time.Duration) (values []float64) {
	for _, d := range all {
		values = append(values, milliseconds(d))
	}
	return values
}
