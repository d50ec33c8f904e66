package httpcache

import (
	"io"
	"net/http"
	"testing"
)

func TestAnswerIsAskedForOnce(t *testing.T) {
	n := 0
	_, s := newProxy(t, Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "hello")
	}))
	for range 3 {
		res, err := http.Get(s.URL + "/x")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		t.Log(res.Status, res.Header, string(b))
	}
	if n != 1 {
		t.Fatalf("%d requests", n)
	}
}
