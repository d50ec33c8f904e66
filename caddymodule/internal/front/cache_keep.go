package front

import (
	"errors"
	"hash/maphash"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/httpcache"
)

// keeper takes the application's answer in for a flight. Its client is the first
// of those who follow: what can be kept reaches it by way of the object, so that
// conditions and ranges are answered as those of a hit are, and a slow client
// holds nobody up. What cannot be kept goes straight to the client.
//
// It is a http.ResponseWriter for the goroutine that sends. The client's own
// belongs to that goroutine as well until serve is called, and again when served
// was closed.
type keeper struct {
	x          *exchange
	w          http.ResponseWriter // the client's
	r          *http.Request       // the client's, as it came
	cache      *httpcache.Cache
	req        httpcache.Request
	flight     *httpcache.Flight
	found      httpcache.Note
	background bool // nobody waits
	send       Sender

	stay, leave func() // the queue, for one who may be overtaken: whatever others do; now. nil: nobody does

	out     http.Header // of the request that is sent
	header  http.Header // of the answer
	control []string    // its Portner-Cache-Control
	got     httpcache.Received
	wrote   bool // the head of the final answer
	part    bool // some of the body was written
	timing  string
	sum     *maphash.Hash // of the body, for advice; nil: of no interest

	served chan struct{} // closed when serve has ended; nil: it was not called
	ended  func()        // what has become of serve, for who waited for it
}

// errAgain: the application has confirmed what is no longer stored. The request
// is to be sent once more, without a condition.
var errAgain = errors.New("front: the answer was about an object that has gone")

func newKeeper(x *exchange, w http.ResponseWriter, r *http.Request, cache *httpcache.Cache, req httpcache.Request, found httpcache.Found) *keeper {
	return &keeper{x: x, w: w, r: r, cache: cache, req: req, flight: found.Flight, found: found.Note, header: make(http.Header)}
}

// prepared is the request that the flight sends: with the cache's conditions in
// place of the client's. The client's own stays as it is.
func (k *keeper) prepared(r *http.Request) *http.Request {
	out := new(http.Request)
	*out = *r
	out.Method = k.flight.Method()
	out.Header = r.Header.Clone()
	k.out = out.Header
	k.flight.Prepare(out.Header)
	return k.contends(out)
}

// Header implements http.ResponseWriter.
func (k *keeper) Header() http.Header {
	if k.wrote && k.got.Use == httpcache.Forward {
		return k.w.Header() // trailers
	}
	return k.header
}

// WriteHeader implements http.ResponseWriter.
func (k *keeper) WriteHeader(status int) {
	switch {
	case k.wrote:
		return
	case status < 200:
		k.inform(status)
		return
	}
	k.wrote = true
	if k.control != nil {
		k.header[controlField] = k.control
	}
	k.got = k.flight.Receive(status, k.judged())
	delete(k.header, controlField)
	if status == http.StatusOK && k.out != nil && k.flight.Method() == http.MethodGet {
		k.sum = k.cache.Advisor().Hash()
	}
	if k.got.Use != httpcache.Forward {
		return
	}
	if !k.req.Trusted {
		delete(k.header, "Surrogate-Control") // it was for this cache
	}
	h := k.w.Header()
	delete(h, "Server")
	for name, values := range k.header {
		h[name] = append(h[name], values...)
	}
	k.tellTiming(h)
	k.got.Note.AddTo(h)
	k.w.WriteHeader(status)
}

// inform passes an interim answer on.
func (k *keeper) inform(status int) {
	h := k.w.Header()
	own := h.Clone()
	for name, values := range k.header {
		h[name] = append(h[name][:len(h[name]):len(h[name])], values...)
	}
	k.w.WriteHeader(status)
	clear(h)
	for name, values := range own {
		h[name] = values
	}
}

// judged is the answer's header for the cache. An answer that depends on what is
// made at the door is like one that depends on all: the cache looks at what clients
// have sent (RFC 9111 4.1). So is a stream: it has no end to be kept with.
func (k *keeper) judged() http.Header {
	if !streams(k.header) && !k.variesOnMade() {
		return k.header
	}
	h := k.header.Clone()
	h["Vary"] = []string{"*"}
	return h
}

func (k *keeper) variesOnMade() bool {
	for name := range items(k.header["Vary"]) {
		if k.made(http.CanonicalHeaderKey(name)) {
			return true
		}
	}
	return false
}

// made reports whether the application saw a field of its request in another form
// than the client has sent it, or not at all: whoever lists it in Connection must
// not have the page of those who send none stored under his own.
func (k *keeper) made(name string) bool {
	switch name {
	case "X-Forwarded-Proto", "X-Forwarded-Host":
		return false // the key has them
	case "Via":
		return true
	}
	return k.x.onward.Drops(name) || k.x.front.cfg.Caching.Made != nil && k.x.front.cfg.Caching.Made(name)
}

// Write implements http.ResponseWriter.
func (k *keeper) Write(p []byte) (int, error) {
	if !k.wrote {
		k.WriteHeader(http.StatusOK)
	}
	if k.sum != nil {
		k.sum.Write(p)
	}
	switch k.got.Use {
	case httpcache.Forward:
		return k.w.Write(p)
	case httpcache.Keep:
		// It comes in pieces: the client need not wait for the last, and must not
		// where it is too long to keep.
		if k.part || int64(len(p)) > k.flight.Room() {
			k.serve()
		}
		k.part = true
		return k.flight.Write(p)
	}
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom: what goes straight to the client may go as
// fast as it can.
func (k *keeper) ReadFrom(src io.Reader) (int64, error) {
	if !k.wrote {
		k.WriteHeader(http.StatusOK)
	}
	if k.got.Use == httpcache.Forward && k.sum == nil {
		return io.Copy(k.w, src)
	}
	return io.Copy(writerOnly{k}, src)
}

type writerOnly struct{ io.Writer }

// FlushError implements what http.ResponseController asks for.
func (k *keeper) FlushError() error {
	if !k.wrote {
		k.WriteHeader(http.StatusOK)
	}
	switch k.got.Use {
	case httpcache.Forward:
		return http.NewResponseController(k.w).Flush()
	case httpcache.Keep:
		k.serve()
	}
	return nil
}

// Unwrap implements what http.ResponseController asks for.
func (k *keeper) Unwrap() http.ResponseWriter { return k.w }

// sent notes that the request is about to be sent. k may be nil.
func (k *keeper) sent() {
	if k == nil {
		return
	}
	if k.stay != nil {
		k.stay()
	}
	k.flight.Sent()
}

// landed ends a flight whose answer has come, and waits until the client has it.
// k may be nil.
func (k *keeper) landed() error {
	if k == nil {
		return nil
	}
	if !k.wrote {
		k.WriteHeader(http.StatusOK)
	}
	k.observe()
	switch k.got.Use {
	case httpcache.Forward:
		return nil
	case httpcache.Again:
		k.wrote, k.part = false, false
		clear(k.header)
		k.flight.Prepare(k.out)
		return errAgain
	case httpcache.Keep:
		k.flight.End(k.trailer())
	default:
		k.x.Cache = "revalidated"
		if k.got.Note.Answered >= 500 {
			k.x.Verdict, k.x.Cache = "stale", "stale"
		}
	}
	if k.background {
		return nil
	}
	if k.served == nil {
		return k.give()
	}
	k.close()
	return nil
}

// observe tells the advisor what the application has answered.
func (k *keeper) observe() {
	if k.sum == nil {
		return
	}
	k.cache.Advisor().Observe(httpcache.Seen{
		Template: k.x.Template, Key: k.req.Key, SetCookie: k.header["Set-Cookie"] != nil,
		Anonymous: k.req.Header["Cookie"] == nil && k.req.Header["Authorization"] == nil,
		Sum:       k.sum.Sum64(), Service: k.x.Service,
	})
}

// give answers the client by way of the object.
func (k *keeper) give() error {
	k.tell()
	return k.x.give(k.r.Context(), k.w, k.cache.Answer(&k.req, k.got.Object), k.got.Note)
}

// serve begins to answer the client while the rest of the answer still comes.
func (k *keeper) serve() {
	if k.served != nil || k.background || k.got.Object == nil {
		return
	}
	k.served = make(chan struct{})
	shadow := &exchange{front: k.x.front}
	k.tell()
	go func() { // ends with the answer, or when the client leaves; close waits for it
		defer close(k.served)
		defer func() {
			p := recover()
			k.ended = func() {
				if p != nil {
					panic(p)
				}
				if shadow.Verdict != "" {
					k.x.Verdict = shadow.Verdict
				}
			}
		}()
		shadow.give(k.r.Context(), k.w, k.cache.Answer(&k.req, k.got.Object), k.got.Note)
	}()
}

// close ends the flight, whatever has become of it. k may be nil.
func (k *keeper) close() {
	if k == nil {
		return
	}
	k.flight.Done()
	if k.leave != nil {
		k.leave()
	}
	if k.served != nil {
		<-k.served
		k.ended()
	}
}

// trailer is what was set behind the body: under names that were announced, or
// with net/http's prefix.
func (k *keeper) trailer() httpcache.Header {
	var trailer httpcache.Header
	for name, values := range k.header {
		bare, prefixed := strings.CutPrefix(name, http.TrailerPrefix)
		if prefixed || slices.Contains(k.header["Trailer"], name) {
			if trailer == nil {
				trailer = make(httpcache.Header)
			}
			trailer[bare] = values
		}
	}
	return trailer
}

// tell sets what the client alone is told, beside what all get.
func (k *keeper) tell() {
	h := k.w.Header()
	k.tellTiming(h)
	for _, name := range k.got.Own {
		h[name] = k.header[name]
	}
}

func (k *keeper) tellTiming(h http.Header) {
	if k.timing != "" {
		h["Server-Timing"] = append(h["Server-Timing"], k.timing)
	}
}

// standIn answers with a stale object in place of a refusal or a failure, to the
// client and to those who follow, where that is allowed. k may be nil.
func (k *keeper) standIn(err error) bool {
	if k == nil || k.wrote || k.r.Context().Err() != nil && !k.background {
		return false
	}
	if k.rejoin() {
		return true
	}
	o, note, ok := k.flight.Instead(troubleOf(err))
	if !ok || k.background {
		return ok
	}
	k.x.Verdict, k.x.Cache = "stale", "stale"
	k.x.give(k.r.Context(), k.w, k.cache.Answer(&k.req, o), note)
	return true
}

func troubleOf(err error) httpcache.Trouble {
	for _, busy := range []error{admission.ErrFull, admission.ErrWait, admission.ErrShed, admission.ErrExcess} {
		if errors.Is(err, busy) {
			return httpcache.Overloaded
		}
	}
	return httpcache.Unreachable
}
