package store

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// ErrBusy: so much of the same is being done that waiting for it would be in
// vain. Trying again in a moment is not.
var ErrBusy = errors.New("too much of this is being done at once")

// gate lets a few compute at once and the others wait for a place. The urgent
// get the next free one, in front of everybody else; of the others so many
// wait as get their turn within a second or two, and who comes then is told so.
//
// Always: used <= places; while somebody waits there is no free place; of the
// patient no more than most wait. Safe for concurrent use.
type gate struct {
	places, most int

	mu      sync.Mutex
	used    int             // mu
	urgent  []chan struct{} // mu; first come, first served; closed with the place
	patient []chan struct{} // mu; the same
}

// enter waits for a place. It is ErrBusy at once where too many wait already,
// and ErrUnavailable when ctx ends first. The urgent are not bounded here: each
// is a request that somebody sent, and cheap.
func (g *gate) enter(ctx context.Context, urgent bool) (leave func(), err error) {
	g.mu.Lock()
	line := &g.patient
	if urgent {
		line = &g.urgent
	}
	switch {
	case g.used < g.places:
		g.used++
		g.mu.Unlock()
		return sync.OnceFunc(g.leave), nil
	case !urgent && len(g.patient) >= g.most:
		g.mu.Unlock()
		return nil, ErrBusy
	}
	mine := make(chan struct{})
	*line = append(*line, mine)
	g.mu.Unlock()
	select {
	case <-mine:
		return sync.OnceFunc(g.leave), nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	at := slices.Index(*line, mine)
	if at >= 0 {
		*line = slices.Delete(*line, at, at+1)
	}
	g.mu.Unlock()
	if at < 0 { // the place came meanwhile
		g.leave()
	}
	return nil, unavailable("wait for a turn", ctx.Err())
}

// leave gives the place to whoever is next, or makes it free.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, line := range []*[]chan struct{}{&g.urgent, &g.patient} {
		if len(*line) > 0 {
			close((*line)[0])
			*line = (*line)[1:]
			return
		}
	}
	g.used--
}
