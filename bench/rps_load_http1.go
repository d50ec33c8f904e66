package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// An http1Caller asks on one kept connection.
type http1Caller struct {
	net.Conn
	answers *bufio.Reader
	request []byte
	body    int
}

func newHTTP1Caller(conn net.Conn, host string, body int) *http1Caller {
	return &http1Caller{conn, bufio.NewReaderSize(conn, 32<<10),
		fmt.Appendf(nil, "GET /%d HTTP/1.1\r\nHost: %s\r\nUser-Agent: portner-bench\r\nAccept: */*\r\n\r\n", body, host), body}
}

func (c *http1Caller) ask() error {
	c.SetDeadline(time.Now().Add(answerTime)) // an error shows in what follows
	if _, err := c.Write(c.request); err != nil {
		return err
	}
	head, err := readHead(c.answers)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	status, length, err := parseHead(head)
	if err != nil {
		return err
	}
	if status != 200 || length != c.body {
		return fmt.Errorf("a wrong answer: status %d and %d bytes, not 200 and %d", status, length, c.body)
	}
	if _, err := c.answers.Discard(len(head) + length); err != nil {
		return fmt.Errorf("half an answer: %w", err)
	}
	return nil
}

var (
	errNoLength  = errors.New("an answer without Content-Length")
	errNotKept   = errors.New("the proxy does not keep the connection")
	closeOption  = []byte("close")
	lengthField  = []byte("Content-Length")
	connField    = []byte("Connection")
	encodedField = []byte("Transfer-Encoding")
)

// parseHead reads the head of an answer that has a length and after which the
// connection goes on; nothing else is comparable.
func parseHead(head []byte) (status, length int, err error) {
	if len(head) < 13 || !bytes.HasPrefix(head, []byte("HTTP/1.1 ")) {
		return 0, 0, errNotHTTP
	}
	if status, err = strconv.Atoi(string(head[9:12])); err != nil {
		return 0, 0, errNotHTTP
	}
	length = -1
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, lengthField):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
				return 0, 0, errNotHTTP
			}
		case bytes.EqualFold(name, encodedField):
			return 0, 0, errNoLength
		case bytes.EqualFold(name, connField) && bytes.EqualFold(value, closeOption):
			return 0, 0, errNotKept
		}
	}
	if length < 0 {
		return 0, 0, errNoLength
	}
	return status, length, nil
}
