package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func posting(t *testing.T, h http.HandlerFunc) outcome {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	return newCourseClient(&site{url: server.URL}, patience).post(t.Context(), makeItems(1)[0])
}

func TestCourseClientSendsWhatTheCourseSent(t *testing.T) {
	o := posting(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != "POST" || r.URL.Path != "/post" || r.ProtoMajor != 1 || !r.Close ||
			r.Header.Get("Content-Type") != "application/json" ||
			r.Header.Get("Authorization") != "Basic b'c2ltdWxhdG9yOnN1cGVyX3NhZmUh'" ||
			string(body) != string(makeItems(1)[0].Sent) {
			t.Errorf("got %s %s %s close=%t %v %q", r.Method, r.URL, r.Proto, r.Close, r.Header, body)
		}
	})
	if !o.taken() {
		t.Errorf("got %+v, want taken", o)
	}
}

func TestCourseClientGivesUpAfterItsPatience(t *testing.T) {
	o := posting(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // net/http notices that a client has left only then
		<-r.Context().Done()
	})
	if !o.late || o.err != nil || o.taken() || o.took < patience || o.took > 10*time.Second {
		t.Errorf("got %+v, want late", o)
	}
}

func TestEverythingBut200IsNotTaken(t *testing.T) {
	for _, status := range []int{202, 308, 403, 503} {
		o := posting(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) })
		if o.taken() || o.late || o.err == nil || o.status != status {
			t.Errorf("%d: got %+v", status, o)
		}
	}
	o := posting(t, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	if o.taken() || o.late || o.err == nil || o.status != 0 {
		t.Errorf("connection cut: got %+v", o)
	}
}
