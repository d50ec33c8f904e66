// Command healthcheck asks whether a server answers HTTP. Images without a
// shell use it as their health check, xcaddy.sh to know when to say "ready".
//
// A status below 500 is an answer, a redirect too: the question is whether this
// server is there, not whether everything behind it is.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	ca := flag.String("ca", "", "trust the certificates in this `file` as well")
	timeout := flag.Duration("timeout", 2*time.Second, "longest time for each answer")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: healthcheck [flags] <url> ...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}

	client, err := newClient(*ca, *timeout)
	for _, url := range flag.Args() {
		err = errors.Join(err, ask(client, url))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// newClient verifies certificates; a CA file that is not there yet is an error
// of the day, not of the caller, so that one can ask again.
func newClient(ca string, timeout time.Duration) (*http.Client, error) {
	transport := &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true}
	client := &http.Client{
		Transport: transport,
		Timeout:   timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	if ca == "" {
		return client, nil
	}

	pem, err := os.ReadFile(ca)
	if err != nil {
		return client, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return client, fmt.Errorf("%s holds no certificate", ca)
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	return client, nil
}

func ask(client *http.Client, url string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return fmt.Errorf("%s: read the answer: %w", url, err)
	}
	if resp.StatusCode >= 500 {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}
