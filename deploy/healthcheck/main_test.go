package main

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestEveryStatusBelow500IsAnAnswer(t *testing.T) {
	for status, want := range map[int]bool{200: true, 204: true, 308: true, 404: true, 500: false, 502: false, 503: false} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/nobody") // a redirect is not followed
			w.WriteHeader(status)
		}))
		if got := asking(t, "", server.URL); (got == nil) != want {
			t.Errorf("%d: got %v", status, got)
		}
		server.Close()
	}
}

func TestSilenceIsNoAnswer(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer silent.Close()
	if err := asking(t, "", silent.URL); err == nil {
		t.Error("a server that says nothing counts as well")
	}
	if err := asking(t, "", "http://127.0.0.1:1"); err == nil {
		t.Error("a closed port counts as well")
	}
}

func TestOnlyAKnownCertificateIsAnAnswer(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	dir := t.TempDir()
	ca := filepath.Join(dir, "root.crt")
	if err := asking(t, ca, server.URL); err == nil {
		t.Error("a CA file that is not there counts as well")
	}
	write(t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	if err := asking(t, ca, server.URL); err != nil {
		t.Error(err)
	}
	if err := asking(t, "", server.URL); err == nil {
		t.Error("an unknown certificate counts as well")
	}
	write(t, ca, []byte("not a certificate"))
	if err := asking(t, ca, server.URL); err == nil {
		t.Error("a CA file without a certificate counts as well")
	}
}

func asking(t *testing.T, ca, url string) error {
	t.Helper()
	client, err := newClient(ca, 200*time.Millisecond)
	if err != nil {
		return err
	}
	return ask(client, url)
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
