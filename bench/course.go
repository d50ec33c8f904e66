package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// patience is how long the course's client waits for an answer.
const patience = 100 * time.Millisecond

// courseClient posts as the course's simulator did: one connection for each
// item, HTTP/1.1, and a header in which Python's bytes show through.
type courseClient struct {
	http     *http.Client
	url      string
	patience time.Duration
}

func newCourseClient(s *site, patience time.Duration) *courseClient {
	return &courseClient{url: s.url + "/post", patience: patience, http: &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true, // sends Connection: close
			TLSClientConfig:   &tls.Config{RootCAs: s.roots},
		},
	}}
}

// An outcome is what the client saw of one post. Late and Err exclude each other.
type outcome struct {
	took   time.Duration
	late   bool // the client gave up
	status int  // 0 when there was no answer
	err    error
}

func (o outcome) taken() bool { return !o.late && o.err == nil && o.status == http.StatusOK }

// post allows patience for everything: connecting, the handshake, the answer.
func (c *courseClient) post(ctx context.Context, item Item) outcome {
	start := time.Now()
	impatient, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	status, err := c.send(impatient, item)
	o := outcome{took: time.Since(start), status: status, err: err}
	if o.took > c.patience || errors.Is(err, context.DeadlineExceeded) {
		o.late, o.err = true, nil
	}
	return o
}

func (c *courseClient) send(ctx context.Context, item Item) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(item.Sent))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Basic b'c2ltdWxhdG9yOnN1cGVyX3NhZmUh'")
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", resp.Status, body)
	}
	return resp.StatusCode, err
}
