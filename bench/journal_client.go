package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// killPatience is how long a client of the kill scene waits for an answer.
const killPatience = time.Second

// killClient is one of many. It is used by one goroutine.
type killClient struct {
	http  *http.Client
	url   string
	named bool // its writes have an Idempotency-Key
}

func newKillClient(s *journalSite, number int) *killClient {
	named := number%2 == 0
	return &killClient{url: s.url + "/post", named: named, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: !named}}}
}

// post tries once. An error is an answer that should never be given; why is what
// was in the way of one.
func (c *killClient) post(ctx context.Context, item Item) (accepted bool, why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, killPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(item.Sent))
	if err != nil {
		return false, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.named {
		req.Header.Set("Idempotency-Key", fmt.Sprintf("item-%d", item.ID))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return false, reasonOf(err), nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	switch {
	case err != nil:
		return false, reasonOf(err), nil
	case resp.StatusCode == http.StatusOK:
		return true, "", nil
	case resp.StatusCode == http.StatusConflict && c.named && resp.Header.Get("Location") != "":
		return true, "", nil // its first try was accepted, and is on its way
	case resp.StatusCode/100 == 5:
		return false, fmt.Sprintf("%d", resp.StatusCode), nil
	}
	return false, "", fmt.Errorf("%s: %.200s", resp.Status, text)
}

// reasonOf is a word or two for what became of a try without an answer.
func reasonOf(err error) string {
	switch text := err.Error(); {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case strings.Contains(text, "refused"):
		return "connection refused"
	case strings.Contains(text, "reset"), strings.Contains(text, "EOF"), strings.Contains(text, "broken pipe"):
		return "connection broken"
	}
	return "no answer"
}
