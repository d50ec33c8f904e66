package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/portner/portner/webapp/internal/news"
)

const (
	nextOwnID = `SELECT coalesce(max(id), $1) + 1 FROM items WHERE id >= $1`
	sameLink  = `SELECT id FROM items WHERE same_link($1) AND link <> '' AND state = 0 AND created_at > $2 ORDER BY id DESC LIMIT 1`
	lately    = `SELECT count(*), coalesce(min(created_at), 0) FROM (
		SELECT created_at FROM items WHERE author = $1 AND heads = $2 AND kind <> 'pollopt' AND id >= $5 ORDER BY seq DESC LIMIT $4) AS l WHERE created_at > $3`
	sameBefore = `SELECT id FROM (
		SELECT id, parent, title, body, url, created_at, kind FROM items WHERE author = $1 AND heads = $2 ORDER BY seq DESC LIMIT 30) AS l
		WHERE kind = $7 AND parent = $3 AND title = $4 AND body = $5 AND url = $6 AND created_at > $8 ORDER BY id DESC`
	readOptions   = `SELECT title FROM items WHERE parent = $1 AND kind = 'pollopt' ORDER BY id`
	editItem      = `UPDATE items SET title = $2, body = $3, url = $4, site = $5, link = $6, shelf = $7, edited_at = $8 WHERE id = $1`
	emptyItem     = `UPDATE items SET title = '', body = '', url = '', site = '', link = '', state = $2, edited_at = $3 WHERE `
	deleteItem    = emptyItem + `id = $1`
	deleteOptions = emptyItem + `parent = $1 AND kind = 'pollopt'`
)

// Times that are not the rules' but the store's.
const (
	// linkLife is how long an address leads to its old discussion.
	linkLife = 365 * 24 * time.Hour
	// twiceWithin is how long the same words of the same user are the same
	// post: a double click, a form that is sent again by the browser or the
	// door.
	twiceWithin = 10 * time.Minute
)

// Discussed is the error of a story whose address is here already.
type Discussed struct{ ID news.ID } // of its discussion

func (d *Discussed) Error() string { return fmt.Sprintf("the address is discussed in item %d", d.ID) }

// ErrTooFast is wrapped by a *TooFast.
var ErrTooFast = errors.New("too fast")

// TooFast is somebody who posts or tries more often than he may.
type TooFast struct{ Wait time.Duration } // until he may again

func (t *TooFast) Error() string {
	return fmt.Sprintf("too fast: again in %s", t.Wait.Round(time.Second))
}
func (t *TooFast) Is(target error) bool { return target == ErrTooFast }

// Submit stores what a person wrote and returns its id, which no item of the
// simulator can have. The same words sent twice are stored once, and so is what
// comes twice under one key. Errors: *news.Invalid, *Discussed, *TooFast, ErrNotAllowed (a parent that cannot be
// answered), ErrNoSuchItem (no such parent), ErrNoSuchUser.
func (s *Store) Submit(ctx context.Context, name string, d news.Draft) (id news.ID, err error) {
	d = d.Trimmed()
	if err := d.Check(); err != nil {
		return 0, err
	}
	err = s.change(ctx, func(w *work) error {
		u, err := user(w.ctx, w.at, name)
		if err != nil {
			return err
		}
		if id, err = w.submitted(u.Name, d.Key); err != nil || id != 0 {
			return err
		}
		if id, err = w.sameAs(u, d); err != nil {
			return err
		}
		if id != 0 {
			return w.remember(u.Name, d.Key, id)
		}
		if err := w.maySubmit(u, d); err != nil {
			return err
		}
		if _, err := w.one("choose id", nextOwnID, into(&id), news.FirstOwnID); err != nil {
			return err
		}
		here, err := w.rootsOf([]news.ID{d.Parent})
		if err != nil {
			return err
		}
		items := []news.Item{w.placed(news.Item{ID: id, Kind: d.Kind, Parent: d.Parent, By: name, Title: d.Title, Body: d.Text, URL: d.URL}, here)}
		for i, option := range d.Options {
			o := news.Item{ID: id + 1 + news.ID(i), Kind: news.PollOption, Parent: id, By: name, Title: option}
			items = append(items, w.placed(o, here))
		}
		touched, err := w.insert(items)
		if err != nil {
			return err
		}
		w.touch(slices.Concat(touched...)...)
		return w.remember(u.Name, d.Key, id)
	})
	if err != nil {
		return 0, err
	}
	return id, nil
}

// sameAs finds what somebody has just posted in the same words; 0: nothing. Two
// polls are the same when they offer the same.
func (w *work) sameAs(u news.User, d news.Draft) (id news.ID, err error) {
	same, err := many(w.ctx, w.at, "look for the same", scanOne[news.ID], sameBefore, u.Name, number(d.Kind.Heads()), d.Parent, d.Title, d.Text, d.URL,
		d.Kind, w.now.Add(-twiceWithin).UnixMilli())
	if err != nil {
		return 0, err
	}
	for _, id := range same {
		if d.Kind != news.Poll {
			return id, nil
		}
		offers, err := many(w.ctx, w.at, "read options", scanOne[string], readOptions, id)
		if err != nil {
			return 0, err
		}
		if slices.Equal(offers, d.Options) {
			return id, nil
		}
	}
	return 0, nil
}

// discussed finds where an address is discussed; 0: nowhere.
func (w *work) discussed(link string) (id news.ID, err error) {
	if link == "" {
		return 0, nil
	}
	_, err = w.one("look for address", sameLink, into(&id), link, w.now.Add(-linkLife).UnixMilli())
	return id, err
}

func (w *work) maySubmit(u news.User, d news.Draft) error {
	if d.Kind == news.Job && !u.Moderator {
		return &news.Refusal{Why: "Jobs are posted by moderators."}
	}
	if d.Parent != 0 {
		to, err := item(w.ctx, w.at, d.Parent)
		if err != nil {
			return err
		}
		if err := news.MayReply(to); err != nil {
			return err
		}
	}
	if there, err := w.discussed(news.SameLink(d.URL)); err != nil {
		return err
	} else if there != 0 {
		return &Discussed{there}
	}
	pace := u.PaceOf(w.now)
	most := pace.Comments
	if d.Kind.Heads() {
		most = pace.Heads
	}
	var n int
	var oldest int64
	_, err := w.one("count what he posted", lately, into(&n, &oldest), u.Name, number(d.Kind.Heads()),
		w.now.Add(-time.Hour).UnixMilli(), most, news.FirstOwnID)
	if err != nil {
		return err
	}
	if n >= most {
		return &TooFast{Wait: max(time.Second, time.UnixMilli(oldest).Add(time.Hour).Sub(w.now))}
	}
	return nil
}

// Edit replaces title, text and address of an item by those of d; nothing
// else of d counts. Where they are the same, nothing is stored. Its author may
// for two hours, moderators always. Errors: those of Submit, but an address that
// is discussed already is an *news.Invalid that names "url".
func (s *Store) Edit(ctx context.Context, name string, id news.ID, d news.Draft) error {
	return s.change(ctx, func(w *work) error {
		u, it, _, err := w.before(name, "vote", id)
		if err != nil {
			return err
		}
		if err := u.MayEdit(it, w.now); err != nil {
			return err
		}
		if it.Kind == news.PollOption {
			return &news.Refusal{Why: "The options of a poll stay as they are."}
		}
		d := news.Draft{Kind: it.Kind, Parent: it.Parent, Title: d.Title, URL: d.URL, Text: d.Text}.Trimmed()
		if d.Title == it.Title && d.URL == it.URL && d.Text == it.Body {
			return nil
		}
		if err := checkEdit(d, it); err != nil {
			return err
		}
		site, link, shelf := "", "", news.NoShelf
		if it.Kind.Heads() {
			site, link, shelf = news.SiteOf(d.URL), news.SameLink(d.URL), news.ShelfOf(it.Kind, d.Title)
		}
		if link != news.SameLink(it.URL) {
			if there, err := w.discussed(link); err != nil {
				return err
			} else if there != 0 { // beside the field: the rest of what was typed is not to be lost
				return &news.Invalid{Wrongs: []news.Wrong{{Field: "url", Why: fmt.Sprintf("is discussed already, at /item/%d", there)}}}
			}
		}
		if err := w.makeAllFound(); err != nil {
			return err
		}
		_, err = w.exec("edit item", editItem, id, d.Title, d.Text, d.URL, site, link, shelf, w.now.UnixMilli())
		w.touch(it.Tags()...)
		if site != "" && site != it.Site {
			w.touch(news.SiteTag(site))
		}
		if shelf != news.NoShelf && shelf != it.Shelf {
			w.touch(news.ListTag(string(shelfList[shelf])))
		}
		return err
	})
}

// checkEdit checks what an item is to become. What its kind does not have is
// refused, but where it came so: the simulator's comments have titles.
func checkEdit(d news.Draft, it news.Item) error {
	if it.Kind == news.Comment && d.Title == it.Title {
		d.Title = ""
	}
	if it.Kind != news.Story && it.Kind != news.Job && d.URL == it.URL {
		d.URL = ""
	}
	if it.Kind == news.Poll {
		d.Options = make([]string, news.MinPollOptions) // they are there already
	}
	return d.Check()
}

// Delete removes the texts of an item for good; its place in the thread stays
// for the sake of those who answered. What a poll offers goes with it. Its author may for two hours, moderators
// always.
func (s *Store) Delete(ctx context.Context, name string, id news.ID) error {
	return s.change(ctx, func(w *work) error {
		u, it, _, err := w.before(name, "vote", id)
		if err != nil {
			return err
		}
		if it.State == news.Deleted && it.By == name {
			return nil // sent twice
		}
		if err := u.MayEdit(it, w.now); err != nil {
			return err
		}
		if err := w.makeAllFound(); err != nil {
			return err
		}
		w.touch(append(it.Tags(), news.UserTag(it.By))...)
		if _, err := w.exec("delete item", deleteItem, id, news.Deleted, w.now.UnixMilli()); err != nil || it.Kind != news.Poll {
			return err
		}
		_, err = w.exec("delete options", deleteOptions, id, news.Deleted, w.now.UnixMilli())
		return err
	})
}
