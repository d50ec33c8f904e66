package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"strconv"
	"time"
)

// rpsApp is the application behind the proxies of rps: GET /1024 is 1024 bytes,
// at once. It reads no more of a request than its first line, because it must
// never be what one waits for.
func rpsApp(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("rps-app", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "`address`")
	sizes := flags.String("sizes", "0,1,10,100", "of its answers, in `KiB`")
	if err := parse(flags, args); err != nil {
		return err
	}
	var kib []int
	if err := parseNumbers(&kib, "sizes", *sizes, 0, 10_000); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	return newResponder(kib).serve(ln)
}

// A responder has its answers ready, by the path of the request.
type responder map[string][]byte

func newResponder(kib []int) responder {
	r := responder{"status": plainAnswer([]byte("Alive"))}
	for _, n := range kib {
		r[strconv.Itoa(n<<10)] = plainAnswer(bytes.Repeat([]byte("portner\n"), n<<10/8))
	}
	return r
}

func plainAnswer(body []byte) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// serve ends when the listener is closed.
func (r responder) serve(ln net.Listener) error {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			time.Sleep(time.Millisecond) // out of descriptors
			continue
		}
		go r.answer(conn) // ends with the connection
	}
}

// answer gives one answer after another, until a request is none of ours.
func (r responder) answer(conn net.Conn) {
	defer conn.Close()
	requests := bufio.NewReaderSize(conn, 8<<10)
	for {
		head, err := readHead(requests)
		if err != nil {
			return
		}
		name, _, _ := bytes.Cut(bytes.TrimPrefix(head, []byte("GET /")), []byte(" "))
		answer, ok := r[string(name)]
		if !ok {
			return
		}
		requests.Discard(len(head)) // it is buffered
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

var errBigHead = errors.New("a head larger than the buffer")

// readHead peeks at all up to the empty line.
func readHead(r *bufio.Reader) ([]byte, error) {
	for want := 1; ; want = r.Buffered() + 1 {
		if want > r.Size() {
			return nil, errBigHead
		}
		if _, err := r.Peek(want); err != nil {
			return nil, err
		}
		got, _ := r.Peek(r.Buffered()) // cannot fail
		if end := bytes.Index(got, []byte("\r\n\r\n")); end >= 0 {
			return got[:end+4], nil
		}
	}
}
