package caddymodule

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Caddy bounds for how long a client sends, or takes, nothing (the server options
// read_body_idle and write_idle, a minute each where nothing is said). Here is where
// that is not what is meant.

// forAsLong is as long as they like.
const forAsLong = 10 * 365 * 24 * time.Hour

// converse lets the client of a conversation be silent until end is called. nil:
// nobody watches it.
func converse(ctx context.Context) (end func()) {
	reader, _ := caddyhttp.IdleTimeoutsFromContext(ctx)
	if reader == nil {
		return nil
	}
	return reader.Override(forAsLong, 0)
}

// defaultIdle is Caddy's read_body_idle where nothing is said.
const defaultIdle = time.Minute

// unwatch makes what leaves a body that is taken in to min_rate, or else Caddy's
// minute would end what min_rate allows. What the operator has said himself holds, for
// the server or in a timeouts handler. Caddy fills in the server's default later than
// it provisions handlers.
func unwatch(ctx caddy.Context) func(context.Context) (end func()) {
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server.ReadIdleTimeout != 0 {
		return nil
	}
	return func(ctx context.Context) (end func()) {
		reader, _ := caddyhttp.IdleTimeoutsFromContext(ctx)
		if reader == nil || reader.Deadline.Timeout != defaultIdle || reader.Deadline.MinRate != 0 {
			return nil
		}
		return reader.Override(forAsLong, 0)
	}
}

// connKey finds a connection in the context of its requests.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// beneath is the body of a request under all that a handler has put before it, and the
// connection that it is read from.
func beneath(ctx context.Context) (body io.Reader, conn net.Conn) {
	if reader, _ := caddyhttp.IdleTimeoutsFromContext(ctx); reader != nil {
		body = reader
	}
	conn, _ = ctx.Value(connKey{}).(net.Conn)
	return body, conn
}

// shortestIdle is what no idle timeout is below.
const shortestIdle = 10 * time.Millisecond

// letEnd gives net/http time to write what is left of an answer that began long ago.
// Caddy leaves the deadline of the last write behind. Where the application was silent
// since, it has passed, and the last chunk would be missing: a whole answer would look
// like one that broke off.
func letEnd(r *http.Request, began time.Time) {
	if r.ProtoMajor != 1 || time.Since(began) < shortestIdle {
		return
	}
	_, w := caddyhttp.IdleTimeoutsFromContext(r.Context())
	if w == nil {
		return
	}
	until := time.Now().Add(w.Deadline.Timeout)
	if hard := w.Deadline.HardDeadline; !hard.IsZero() && hard.Before(until) {
		until = hard
	}
	w.SetWriteDeadline(until) // an error: there is no such thing as a deadline
}
