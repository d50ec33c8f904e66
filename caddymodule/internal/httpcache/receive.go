package httpcache

import "time"

// Use is what becomes of the application's answer.
type Use int

const (
	// Forward: it goes to the client as it is, and nobody else has a use for it.
	Forward Use = iota
	// Keep: it goes to the client, by way of Object for those who follow, and
	// each byte is handed to Write as it comes; then End, or Fail.
	Keep
	// Replace: Object goes to the client; the application's body is dropped.
	Replace
	// Again: it is a 304 about something that is not stored. Send the request
	// again, after Prepare.
	Again
)

// Received is what to do with an answer.
type Received struct {
	Use    Use
	Object *Object // for Keep and Replace: Answer makes of it what this client gets
	Note   Note
	Own    []string // names of fields that this client gets beside it, and nobody later
}

// Receive takes the head of the application's final answer.
func (f *Flight) Receive(status int, h Header) Received {
	defer f.settle()
	now := time.Now()
	switch {
	case f.head:
		return f.receiveHead(status, h, now)
	case status == 304 && f.asks:
		return f.receiveNotModified(h, now)
	case f.stale != nil && serverError(status):
		if o, note, ok := f.stand(Failing); ok {
			note.Hit, note.Forward, note.Answered = false, "stale", status
			return Received{Use: Replace, Object: o, Note: note}
		}
	}
	return f.receiveAnswer(status, h, now)
}

// serverError is what stale-if-error counts as an error (RFC 5861 4).
func serverError(status int) bool {
	return status == 500 || 502 <= status && status <= 504
}

// passing statuses say something of a moment, not of the resource: they do not
// make a key lonely, and one of the followers tries in the leader's place.
func passing(status int) bool {
	return status >= 500 || status == 408 || status == 425 || status == 429
}

// note begins a Note about what was forwarded.
func (f *Flight) note() Note { return Note{Forward: f.forward} }

// Instead ends a flight for which nothing comes, and gives the stale object in
// its place, if it may stand in (StaleFor), to this client and to all who follow.
// Otherwise followers go on as after Fail; after a refusal side by side, until one
// of them is sent.
func (f *Flight) Instead(why Trouble) (*Object, Note, bool) {
	defer f.Done()
	defer f.settle()
	f.release(why)
	if f.stale == nil {
		return nil, Note{}, false
	}
	return f.stand(why)
}

// stand lets the stale object stand in. Those who follow get it as well, unless
// it may only because this one request says so.
func (f *Flight) stand(why Trouble) (*Object, Note, bool) {
	o := f.stale
	s := o.state(time.Now(), f.c.epochs)
	if !f.c.epochs.valid(&o.validity) || !staleOnError(&f.control, &o.control, s, why, f.policy.Stale) {
		return nil, Note{}, false
	}
	f.c.counts.stale.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.object, f.stands, f.open = o, true, staleOnError(&Control{}, &o.control, s, why, f.policy.Stale)
	f.landLocked()
	return o, Note{Hit: true, TTL: -s.stale, Lives: true, Detail: troubles[why]}, true
}

// receiveAnswer takes an answer that is not about a stored one.
func (f *Flight) receiveAnswer(status int, h Header, now time.Time) Received {
	o, why := f.make(status, h, now)
	note := f.note()
	f.mu.Lock()
	defer f.mu.Unlock()
	if o == nil {
		note.Detail = why
		f.unshareLocked(status, now)
		f.landLocked()
		return Received{Use: Forward, Note: note}
	}
	f.object, f.body, f.keep = o, o.body, true
	if f.length = contentLength(h); o.part != nil {
		f.length = o.part.length()
	}
	f.openLocked(now)
	note.Stored, note.TTL, note.Lives = true, o.life-now.Sub(o.born), true
	got := Received{Keep, o, note, o.control.own(h)}
	if !f.behind {
		got.Object = o.joined()
	}
	return got
}

// make is the object of an answer, or why there is none.
func (f *Flight) make(status int, h Header, now time.Time) (*Object, string) {
	c := answerControl(h)
	cfg := f.c.cfg.Load()
	why := unstorable(&f.control, f.of, status, h, &c)
	if why == "" && contentLength(h) > cfg.Object {
		why = "size"
	}
	tags := tagsOf(h)
	if len(tags) > maxTags {
		why = "tags"
	}
	if why != "" {
		return nil, why
	}
	f.mu.Lock()
	sent, sentAt := f.sent, f.sentAt
	f.mu.Unlock()
	o := newObject(f.key, f.request, status, h, c, sentAt, now)
	o.validity = f.c.validity(f.key, tags, sent)
	o.pressed = o.pressed && !cfg.Plain
	o.life = f.lifetime(o, now)
	if status == 206 {
		p, size, ok := parseContentRange(field(h, "Content-Range"))
		if n := contentLength(h); !ok || n >= 0 && n != p.length() || p.length() > cfg.Object {
			return nil, "range"
		}
		o.part = &part{p, size}
	}
	if !useful(o, now) {
		return nil, "no-freshness"
	}
	o.body = &body{limit: cfg.Object}
	if n := contentLength(h); n > 0 {
		o.body.data = make([]byte, 0, n)
	}
	return o, ""
}

// validity is what an object of key with these tags depends on.
func (c *Cache) validity(key Key, tags []string, sent uint64) validity {
	v := validity{sent: sent, marks: []uint32{c.epochs.key(key)}}
	for _, t := range tags {
		v.marks = append(v.marks, c.epochs.tag(t))
	}
	return v
}

// lifetime is that of RFC 9111 4.2.1, or the route's where the answer has none.
func (f *Flight) lifetime(o *Object, now time.Time) time.Duration {
	life, explicit := lifetime(o.status, o.header, &o.control, now, max(0, f.c.cfg.Load().Heuristic))
	if !explicit && f.policy.TTL > 0 && f.of.anonymous() && silent(o.status, o.header, &o.control) {
		return f.policy.TTL + now.Sub(o.born) // it begins now
	}
	return life
}

// useful reports whether storing an object saves anything: it is fresh, may be
// served stale, or can be asked about.
func useful(o *Object, now time.Time) bool {
	return now.Sub(o.born) < o.life || !o.control.prohibitsStale() && o.control.has(staleWhileRevalidate|staleIfError) ||
		o.part == nil && validator(o.header, o.received)
}

// openLocked lets followers have the object, where it may answer them without
// another question; otherwise they go on, side by side.
func (f *Flight) openLocked(now time.Time) {
	o := f.object
	f.open = o.part == nil && judge(&Control{}, &o.control, o.state(now, f.c.epochs)) != useless
	if f.open {
		f.c.alone.remove(f.c.epochs.flight(f.in))
		f.decideLocked()
		return
	}
	f.unshareLocked(o.status, now)
}

func (f *Flight) unshareLocked(status int, now time.Time) {
	if !f.alone && !passing(status) {
		f.c.alone.add(f.c.epochs.flight(f.in), now)
	}
	f.decideLocked()
}

// receiveNotModified makes the stored object fresh (RFC 9111 4.3.4).
func (f *Flight) receiveNotModified(h Header, now time.Time) Received {
	o := f.stale
	if o == nil || !confirms(h, o) {
		if o == nil { // nobody asked whether it was modified
			f.Fail()
			return Received{Use: Forward, Note: f.note()}
		}
		f.c.store.drop(o)
		f.stale = nil
		return Received{Use: Again}
	}
	others := f.c.store.others(o, f.request, f.c.epochs)
	fresh, why := f.refreshed(o, h, now)
	for _, x := range others { // 4.3.4: all with the same strong validator
		if etag := field(h, "Etag"); strong(etag) && etag == x.etag() {
			f.refreshed(x, h, now)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.object = fresh
	switch why {
	case "":
		f.openLocked(now)
	case invalidated: // says nothing of the next answer
	default:
		f.unshareLocked(fresh.status, now)
	}
	f.landLocked()
	note := f.note()
	note.Answered, note.Stored, note.Detail, note.TTL, note.Lives = 304, why == "", why, fresh.life-now.Sub(fresh.born), true
	return Received{Replace, fresh, note, fresh.control.own(h)}
}

// invalidated: it was invalidated since the request was sent.
const invalidated = "invalidated"

// refreshed is an object with the fields of a 304 or of an answer to HEAD,
// stored in place of the old one where it still may be; why says why it may not,
// and then it is for nobody but the client that has asked.
func (f *Flight) refreshed(o *Object, h Header, now time.Time) (fresh *Object, why string) {
	f.mu.Lock()
	sent, sentAt := f.sent, f.sentAt
	f.mu.Unlock()
	fresh = o.freshened(f.request, h, sentAt, now)
	fresh.life = f.lifetime(fresh, now)
	fresh.validity = f.c.validity(f.key, tagsOf(fresh.header), sent)
	if why = unstorable(&f.control, f.of, fresh.status, fresh.header, &fresh.control); why == "" && !f.c.epochs.valid(&fresh.validity) {
		why = invalidated
	}
	if why != "" {
		f.c.store.drop(o)
		return fresh, why
	}
	f.c.store.put(fresh, nil, f.c.epochs)
	f.c.counts.stored.Add(1)
	return fresh, ""
}

// receiveHead lets an answer to HEAD freshen what GET has stored (RFC 9111
// 4.3.5), or doubt it.
func (f *Flight) receiveHead(status int, h Header, now time.Time) Received {
	if o := f.stale; o != nil && status == 200 {
		for _, x := range append(f.c.store.others(o, f.request, f.c.epochs), o) {
			f.doubt(x, h, now)
		}
	}
	f.Fail() // there is no body to wait for, and nobody follows
	return Received{Use: Forward, Note: f.note()}
}

// doubt compares a stored answer with the head of an answer to HEAD.
func (f *Flight) doubt(o *Object, h Header, now time.Time) {
	switch {
	case o.status != 200:
	case sameAnswer(h, o):
		f.refreshed(o, h, now)
	default:
		f.c.store.drop(o)
	}
}
