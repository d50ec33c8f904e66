package httpcache

import (
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// TestServeForTheJudge runs the model proxy in front of the server of
// https://github.com/http-tests/cache-tests, for its command line client:
//
//	CACHE_TESTS_ORIGIN=http://127.0.0.1:8000 CACHE_TESTS_LISTEN=127.0.0.1:8001 \
//		go test -run TestServeForTheJudge -timeout 10m ./caddymodule/internal/httpcache
//
// It serves until CACHE_TESTS_LISTEN gets a request for /stop.
func TestServeForTheJudge(t *testing.T) {
	origin, address := os.Getenv("CACHE_TESTS_ORIGIN"), os.Getenv("CACHE_TESTS_LISTEN")
	if origin == "" || address == "" {
		t.Skip("CACHE_TESTS_ORIGIN and CACHE_TESTS_LISTEN are not set")
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{cache: mustNew(t, Config{}), origin: origin, client: &http.Transport{DisableCompression: true}}
	stop := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/stop", func(http.ResponseWriter, *http.Request) { close(stop) })
	mux.Handle("/", p)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go server.Serve(l) // ends with Close
	<-stop
	server.Close()
}
