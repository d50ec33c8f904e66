package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An http2Caller asks on one connection, one stream after another. It is frames
// and nothing above them: x/net's client takes more CPU than some proxies do.
type http2Caller struct {
	net.Conn
	out    *bufio.Writer
	framer *http2.Framer
	fields []hpack.HeaderField
	encode *hpack.Encoder
	block  bytes.Buffer // what encode writes to
	decode *hpack.Decoder
	body   int

	stream   uint32 // the last one
	window   uint32 // bytes that the proxy may send before it hears from us
	consumed uint32 // of them
	status   string // of the answer that comes
	got      int    // bytes of it
	ended    bool
}

const (
	wholeWindow   = 1<<30 - 1 // flow control is not what is measured (h2load has the same)
	defaultWindow = 1<<16 - 1 // RFC 9113, section 6.9.2
)

func newHTTP2Caller(conn net.Conn, host string, body int, window uint32) (*http2Caller, error) {
	c := &http2Caller{Conn: conn, out: bufio.NewWriterSize(conn, 4<<10), body: body, window: window, stream: 1<<32 - 1, fields: []hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: host},
		{Name: ":path", Value: "/" + strconv.Itoa(body)}, {Name: "user-agent", Value: "portner-bench"}, {Name: "accept", Value: "*/*"},
	}}
	c.framer = http2.NewFramer(c.out, bufio.NewReaderSize(conn, 32<<10))
	c.framer.SetReuseFrames()
	c.encode = hpack.NewEncoder(&c.block)
	c.decode = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			c.status = f.Value
		}
	})
	c.out.WriteString(http2.ClientPreface) // it is small enough for the buffer
	err := errors.Join(
		c.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}),
		c.framer.WriteWindowUpdate(0, window-defaultWindow),
		c.out.Flush())
	return c, err
}

func (c *http2Caller) ask() error {
	c.SetDeadline(time.Now().Add(answerTime)) // an error shows in what follows
	c.stream += 2
	c.status, c.got, c.ended = "", 0, false
	c.block.Reset()
	for _, field := range c.fields {
		c.encode.WriteField(field) // to memory
	}
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: c.stream, BlockFragment: c.block.Bytes(), EndStream: true, EndHeaders: true})
	if err := errors.Join(err, c.out.Flush()); err != nil {
		return err
	}
	for !c.ended {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return fmt.Errorf("no whole answer: %w", err)
		}
		if err := c.take(frame); err != nil {
			return err
		}
	}
	if c.status != "200" || c.got != c.body {
		return fmt.Errorf("a wrong answer: status %s and %d bytes, not 200 and %d", c.status, c.got, c.body)
	}
	return nil
}

// take does what a frame asks for.
func (c *http2Caller) take(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.HeadersFrame:
		c.ended = f.StreamEnded()
		_, err := c.decode.Write(f.HeaderBlockFragment())
		return err
	case *http2.ContinuationFrame:
		_, err := c.decode.Write(f.HeaderBlockFragment())
		return err
	case *http2.DataFrame:
		c.got += len(f.Data())
		c.ended = f.StreamEnded()
		return c.giveBack(f.Length)
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		if size, ok := f.Value(http2.SettingHeaderTableSize); ok {
			c.encode.SetMaxDynamicTableSizeLimit(size)
		}
		return errors.Join(c.framer.WriteSettingsAck(), c.out.Flush())
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		return errors.Join(c.framer.WritePing(true, f.Data), c.out.Flush())
	case *http2.RSTStreamFrame:
		return fmt.Errorf("the proxy has reset the stream: %v", f.ErrCode)
	case *http2.GoAwayFrame:
		return fmt.Errorf("%w: %v", errNotKept, f.ErrCode)
	}
	return nil
}

// giveBack opens the connection's window again, seldom.
func (c *http2Caller) giveBack(n uint32) error {
	if c.consumed += n; c.consumed < c.window/2 {
		return nil
	}
	err := c.framer.WriteWindowUpdate(0, c.consumed)
	c.consumed = 0
	return errors.Join(err, c.out.Flush())
}
