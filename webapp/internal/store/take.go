package store

import (
	"context"
	"errors"

	"github.com/portner/portner/webapp/internal/news"
)

// Take stores a post of the simulator, and its author where he is new. When
// it returns nil the item is on the disk. An id that is there already changes
// nothing, whatever else the post says: the simulator and the door send again
// what they got no answer for. ErrWrongSecret refuses a post in a known name.
//
// A client that leaves does not stop it: the course's client gives up after
// 100 ms and does not send again, so a post that has arrived is kept.
func (s *Store) Take(ctx context.Context, p news.Post) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if s.trusted.knows(p.By, p.Secret) {
		return s.wait(ctx, &change{post: &p})
	}
	leave, err := s.trusted.alone(ctx, p.By)
	if err != nil {
		return err
	}
	defer leave()
	fresh, err := s.authenticate(ctx, p.By, p.Secret)
	if err != nil {
		return err
	}
	if err := s.wait(ctx, &change{post: &p, fresh: fresh}); err != nil {
		return err
	}
	s.trusted.add(p.By, p.Secret)
	return nil
}

// authenticate checks the secret of a known user, outside the transaction:
// it is slow on purpose. For an unknown one it returns what to store.
func (s *Store) authenticate(ctx context.Context, name, secret string) (fresh string, err error) {
	if s.trusted.knows(name, secret) { // since we wait for our turn
		return "", nil
	}
	stored, err := s.sealed(ctx, name)
	switch {
	case err != nil:
		return "", err
	case !stored.known:
		return s.sealString(ctx, secret)
	}
	return "", s.verifyString(ctx, stored.secret, secret)
}

const (
	readSeal = `SELECT secret, password FROM users WHERE name = $1`
	addUser  = `INSERT INTO users (name, secret, password, created_at) VALUES ($1, $2, $3, $4)`
)

// takeAll stores posts that came one after the other, with a number of reads
// that does not grow with theirs. out says what became of each; an error is
// the database's.
func (s *Store) takeAll(w *work, posts []*change, out []error) error {
	asked := make([]news.ID, 0, 2*len(posts))
	for _, c := range posts {
		if asked = append(asked, c.post.ID); c.post.Parent != 0 {
			asked = append(asked, c.post.Parent)
		}
	}
	here, err := w.rootsOf(asked)
	if err != nil {
		return err
	}
	items, from := make([]news.Item, 0, len(posts)), make([]*change, 0, len(posts))
	for i, c := range posts {
		p := c.post
		c.touched = nil
		if _, known := here[p.ID]; known {
			continue
		}
		if c.fresh != "" {
			if out[i] = s.newcomer(w, p, c.fresh); errors.Is(out[i], ErrUnavailable) {
				return out[i]
			} else if out[i] != nil {
				continue
			}
		}
		it := news.Item{ID: p.ID, Kind: p.Kind, Parent: p.Parent, By: p.By, Title: p.Title, Body: p.Body, URL: p.URL}
		items, from = append(items, w.placed(it, here)), append(from, c)
	}
	touched, err := w.insert(items)
	for i := range touched {
		from[i].touched = touched[i]
	}
	return err
}

func (s *Store) newcomer(w *work, p *news.Post, fresh string) error {
	var stored seals
	found, err := w.one("read user", readSeal, into(&stored.secret, &stored.password), p.By)
	if err != nil {
		return err
	}
	if found { // somebody was faster with the same name
		return s.verifyString(w.ctx, stored.secret, p.Secret)
	}
	_, err = w.exec("add user", addUser, p.By, fresh, "", w.now.UnixMilli())
	return err
}
