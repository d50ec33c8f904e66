package caddymodule_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A write that can never be sent must not be accepted: no answer would ever come, and
// all that comes after it would wait behind it.
func TestWriteThatCannotBeSentIsRefusedBeforeItIsKept(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		a := newTaker(t)
		words := strings.Replace(journalled(t, a, "respond 200"), "POST /post", "POST /", 1)
		words = strings.Replace(words, "concurrency 2", "concurrency 2\nheader_up X-Up {http.request.uri.query.x}"+direct, 1)
		admin := freeAddr(t)
		d := openWith(t, "admin "+admin+"\nservers {\n protocols h1 h2c\n}\nlog {\n level ERROR\n}", words)
		d.away(t)

		transport := overH2C(t)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url+"/post?a b", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if p := problem(t, res); res.ProtoMajor != 2 || p.Status != 400 || p.Reason != "request-unsendable" {
			t.Errorf("a space in the target, by %s: %+v", res.Proto, p)
		}
		for what, target := range map[string]string{
			"a line's end in a field": "/post?x=a%0d%0aEvil:1",
			"no path":                 "foo:bar",
		} {
			conn, in := d.dial("POST " + target + " HTTP/1.1\r\nHost: " + d.addr + "\r\nContent-Length: 1\r\n\r\nx")
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if p := problem(t, res); p.Status != 400 || p.Reason != "request-unsendable" {
				t.Errorf("%s: %+v", what, p)
			}
			conn.Close()
		}

		o := operator{t, "http://" + admin}
		if list := o.list("undelivered"); len(list) != 1 {
			t.Errorf("kept: %+v", list)
		}
		d.post(t, "behind")
		a.start(t)
		eventually(t, "the good ones are delivered", func() bool { return slices.Equal(a.has(), []string{"first", "behind"}) })
	})
}

// Such a write may be there all the same: an import brings it, or a header_up came
// after it.
func TestEntryThatCannotBeSentIsADeadLetterAndItsLaneGoesOn(t *testing.T) {
	a := newTaker(t)
	words := journalled(t, a, "respond 200")
	d, admin := openWithAdmin(t, words)
	o := operator{t, admin}
	d.away(t)
	status, text := o.ask("GET", "/export", "")
	if status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	uris := []string{"bar", "/post?a b", "/post?x=a%0d%0aEvil:1"}
	for i, uri := range uris {
		copied := strings.ReplaceAll(text, o.list("undelivered")[0].ID, fmt.Sprintf("%032x", i+1))
		copied = strings.Replace(copied, `"uri":"/post"`, `"uri":"`+uri+`"`, 1)
		if status, said := o.ask("POST", "/import", copied); status != 200 {
			t.Fatalf("%d %s", status, said)
		}
	}
	d.post(t, "behind")
	d.mustReload(t, admin, strings.Replace(words, "concurrency 2", "concurrency 2\nheader_up X-Up {http.request.uri.query.x}", 1))
	a.start(t)
	eventually(t, "the others are delivered", func() bool { return slices.Equal(a.has(), []string{"first", "behind"}) })
	// What became of them is noted while their lane goes on.
	eventually(t, "the dead letters are noted", func() bool { return len(o.list("dead")) == len(uris) })
	for i, letter := range o.list("dead") {
		if letter.Reason != "it cannot be sent" || letter.URI != uris[i] {
			t.Errorf("%+v", letter)
		}
	}
	eventually(t, "nothing is left", func() bool { return len(o.list("undelivered")) == 0 })
}
