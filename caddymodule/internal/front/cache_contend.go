package front

import (
	"context"
	"net/http"

	"github.com/portner/portner/caddymodule/internal/httpcache"
)

// contends is the request of a flight that may be overtaken: those who followed a
// leader that was refused wait for slots side by side, and leave the queue when
// the first of them is sent.
func (k *keeper) contends(r *http.Request) *http.Request {
	over := k.flight.Overtaken()
	if over == nil {
		return r
	}
	ctx, leave := context.WithCancel(r.Context())
	stop := context.AfterFunc(over, leave)
	k.stay = func() { stop() }
	k.leave = func() {
		stop()
		leave()
	}
	return r.WithContext(ctx)
}

// behind reports whether another request for the same was sent while this one got
// its slot: a quick application has answered before everybody has left the queue.
// k may be nil.
func (k *keeper) behind() bool { return k != nil && k.flight.Behind() }

// rejoin follows whoever was sent in place of this request, and answers its client.
// It reports false where nobody was.
func (k *keeper) rejoin() bool {
	found, overtaken := k.flight.Rejoin(k.found)
	if !overtaken {
		return false
	}
	x := k.x
	x.kept = nil
	_, policy, _ := x.keeps(k.r)
	found, err := x.follow(k.r, k.cache, &k.req, policy, found)
	if err == nil {
		err = k.goOn(found)
	}
	if err != nil {
		x.front.refuse(k.w, k.r, x, err)
	}
	return true
}

// goOn is the rest of a request that has found something else at a second look.
func (k *keeper) goOn(found httpcache.Found) error {
	w, r, done, err := k.x.use(k.w, k.r, k.cache, k.req, found, k.send)
	if done || err != nil {
		return err
	}
	return k.x.front.forward(w, r, k.x, k.send)
}
