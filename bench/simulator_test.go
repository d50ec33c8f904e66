package main

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestLatenessAloneBreaksNoPromise(t *testing.T) {
	good := Run{Over: "http", Number: 1, Items: 1000, Late: 3, Latest: "1000", Wanted: []string{"1000"}}
	if err := (Result{Runs: []Run{good}}).broken(); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestALateItemMayBeLostAndIsCounted(t *testing.T) {
	run := Run{Items: 4, Latest: "4", Wanted: []string{"4"}, Findings: Findings{Missing: []int{2, 3}}}
	run.forgive(makeItems(4), []outcome{{status: 200}, {late: true}, {status: 200}, {late: true}})
	if !reflect.DeepEqual(run.Lost, []int{2}) || !reflect.DeepEqual(run.Missing, []int{3}) || run.once() != 2 {
		t.Errorf("lost %v, missing %v, %d stored once", run.Lost, run.Missing, run.once())
	}
}

func TestBrokenPromisesAreNamed(t *testing.T) {
	for want, spoil := range map[string]func(*Run){
		"2 not answered 200, such as: item 7: 503": func(r *Run) { r.NotOK, r.Errors = 2, []string{"item 7: 503"} },
		`/latest is "999", want 1000`:              func(r *Run) { r.Latest = "999" },
		"1 missing: [5]":                           func(r *Run) { r.Missing = []int{5} },
		"2 stored more than once: [5 6]":           func(r *Run) { r.Repeated = []int{5, 6} },
		"1 not shown as posted: [8]":               func(r *Run) { r.Wrong = []int{8} },
	} {
		run := Run{Over: "https", Number: 2, Items: 1000, Latest: "1000", Wanted: []string{"1000"}}
		spoil(&run)
		err := Result{Runs: []Run{run}}.broken()
		if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "https, run 2: "+want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestLatestMayBeALateItem(t *testing.T) {
	items := makeItems(5)
	taken, late, refused := outcome{status: 200}, outcome{late: true}, outcome{status: 503, err: errors.New("503")}
	for _, c := range []struct {
		outcomes []outcome
		want     []string
	}{
		{[]outcome{taken, taken, taken, taken, taken}, []string{"5"}},
		{[]outcome{taken, taken, taken, late, late}, []string{"5", "4", "3"}},
		{[]outcome{taken, late, taken, refused, late}, []string{"5", "3"}},
		{[]outcome{refused, refused, refused, refused, refused}, []string{"0"}},
	} {
		if got := latestWanted(items, c.outcomes); !reflect.DeepEqual(got, c.want) {
			t.Errorf("got %v, want %v", got, c.want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	broken := func(context.Context, []string) error { return errBroken }
	known := []subcommand{{"simulator", "posts", simulator}, {"broken", "breaks", broken}}
	for _, c := range []struct {
		args   []string
		status int
		said   string
	}{
		{nil, 2, "usage: go run ./bench"},
		{[]string{"simulater"}, 2, `there is no "simulater"`},
		{[]string{"simulator", "-tls", "perhaps"}, 2, ""},
		{[]string{"simulator", "-runs", "0"}, 2, ""},
		{[]string{"simulator", "posts.jsonl"}, 2, ""},
		{[]string{"simulator", "-h"}, 0, ""},
		{[]string{"broken"}, 1, "a promise was broken"},
	} {
		var said bytes.Buffer
		if status := dispatch(t.Context(), known, c.args, &said); status != c.status || !strings.Contains(said.String(), c.said) {
			t.Errorf("%q: status %d, %q", c.args, status, said.String())
		}
	}
}
