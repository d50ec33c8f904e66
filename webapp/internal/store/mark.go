package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/portner/portner/webapp/internal/news"
)

const (
	readMarks = `SELECT item, what, value FROM marks WHERE name = $2 AND what IN ('vote', 'flag', 'favourite', 'hidden') AND item IN ids($1)`
	readMark  = `SELECT value FROM marks WHERE name = $1 AND what = $2 AND item = $3`
	setMark   = `
		INSERT INTO marks (name, what, item, value, at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (name, what, item) DO UPDATE SET value = excluded.value, at = excluded.at`
	dropMark  = `DELETE FROM marks WHERE name = $1 AND what = $2 AND item = $3`
	dropFlags = `DELETE FROM marks WHERE what = 'flag' AND item = $1`
	setState  = `UPDATE items SET state = $2 WHERE id = $1`
	// What a poll offers goes where it goes, but what was deleted stays so.
	setOptions = `UPDATE items SET state = $2 WHERE parent = $1 AND kind = 'pollopt' AND state <> 2`
)

// Marks are what somebody has done with an item.
type Marks struct {
	Vote      int // 1 up, -1 down, 0 none
	Flag      bool
	Favourite bool
	Hidden    bool
}

// Marks are those of a user on the items that have any.
func (s *Store) Marks(ctx context.Context, name string, ids []news.ID) (map[news.ID]Marks, error) {
	if name == "" || len(ids) == 0 {
		return nil, nil
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, fmt.Errorf("store: list ids: %w", err)
	}
	marks := make(map[news.ID]Marks)
	scan := func(rows *sql.Rows) (none struct{}, err error) {
		var id news.ID
		var what string
		var value int
		if err := rows.Scan(&id, &what, &value); err != nil {
			return none, err
		}
		m := marks[id]
		switch what {
		case "vote":
			m.Vote = value
		case "flag":
			m.Flag = true
		case "favourite":
			m.Favourite = true
		case "hidden":
			m.Hidden = true
		}
		marks[id] = m
		return none, nil
	}
	_, err = many(ctx, at{base: s.r}, "read marks", scan, readMarks, string(list), name)
	return marks, err
}

// Vote votes an item up (1) or down (-1), or takes the vote back (0). A
// second vote of the same user replaces his first. The item's points and
// rank and its author's karma move by what changed. ErrNotAllowed,
// ErrNoSuchItem, ErrNoSuchUser.
func (s *Store) Vote(ctx context.Context, name string, id news.ID, value int) error {
	return s.change(ctx, func(w *work) error {
		u, it, before, err := w.before(name, "vote", id)
		if err != nil {
			return err
		}
		if err := u.MayVote(it, value); err != nil {
			return err
		}
		if before == value {
			return nil
		}
		if err := w.mark(name, "vote", id, value); err != nil {
			return err
		}
		w.touch(it.Tags()...)
		if it.Kind.Heads() {
			w.touch(news.DayTag(it.At)) // which goes by points
		}
		if it.Kind != news.PollOption { // a choice, which says nothing about its author
			if _, err := w.exec("move karma", addKarma, it.By, value-before); err != nil {
				return err
			}
			w.touch(news.UserTag(it.By))
		}
		return w.move(id, func(st *news.Standing) { st.Points += value - before })
	})
}

// Flag says that an item does not belong here, or takes that back. Enough
// flags kill it; a moderator revives. ErrNotAllowed, ErrNoSuchItem.
func (s *Store) Flag(ctx context.Context, name string, id news.ID, on bool) error {
	return s.change(ctx, func(w *work) error {
		u, it, before, err := w.before(name, "flag", id)
		if err != nil {
			return err
		}
		value := number(on)
		if on {
			if err := u.MayFlag(it); err != nil {
				return err
			}
		}
		if before == value {
			return nil
		}
		if err := w.mark(name, "flag", id, value); err != nil {
			return err
		}
		if on && it.State == news.Alive && it.Flags+1 >= news.FlagsToKill {
			if err := w.setState(it, news.Dead); err != nil {
				return err
			}
		}
		w.touch(it.Tags()...)
		return w.move(id, func(st *news.Standing) { st.Flags = max(0, st.Flags+value-before) })
	})
}

// Favourite keeps an item on the user's list of favourites, or removes it.
func (s *Store) Favourite(ctx context.Context, name string, id news.ID, on bool) error {
	return s.remember(ctx, name, "favourite", id, on)
}

// Hide leaves an item out of the lists that the user sees, or shows it again.
func (s *Store) Hide(ctx context.Context, name string, id news.ID, on bool) error {
	return s.remember(ctx, name, "hidden", id, on)
}

func (s *Store) remember(ctx context.Context, name, what string, id news.ID, on bool) error {
	return s.change(ctx, func(w *work) error {
		_, it, before, err := w.before(name, what, id)
		if err != nil {
			return err
		}
		if on && it.State == news.Deleted {
			return &news.Refusal{Why: "This has been deleted."}
		}
		if before == number(on) {
			return nil
		}
		if what == "favourite" { // others see those
			w.touch(news.UserTag(name))
		}
		return w.mark(name, what, id, number(on))
	})
}

// Kill makes an item dead, or revives it and forgets its flags, which are
// forgotten of one that lives as well. ErrNotAllowed unless the user is a moderator.
func (s *Store) Kill(ctx context.Context, name string, id news.ID, dead bool) error {
	return s.change(ctx, func(w *work) error {
		u, it, _, err := w.before(name, "flag", id)
		switch {
		case err != nil:
			return err
		case !u.Moderator:
			return &news.Refusal{Why: "That is for moderators."}
		case it.State == news.Deleted:
			return &news.Refusal{Why: "This has been deleted."}
		case dead:
			w.touch(it.Tags()...)
			return w.setState(it, news.Dead)
		}
		w.touch(it.Tags()...)
		if it.State == news.Dead {
			w.touch(news.Everything) // it comes back wherever it was
			if err := w.setState(it, news.Alive); err != nil {
				return err
			}
		}
		if _, err := w.exec("forget flags", dropFlags, id); err != nil {
			return err
		}
		return w.move(id, func(st *news.Standing) { st.Flags = 0 })
	})
}

// setState makes an item, and what it offers where it is a poll, dead or alive.
func (w *work) setState(it news.Item, to news.State) error {
	if _, err := w.exec("set state", setState, it.ID, to); err != nil {
		return err
	}
	w.touch(news.UserTag(it.By))
	if it.Kind != news.Poll {
		return nil
	}
	_, err := w.exec("set state of options", setOptions, it.ID, to)
	return err
}

// before reads who wants something, of which item, and what his mark is now.
func (w *work) before(name, what string, id news.ID) (u news.User, it news.Item, value int, err error) {
	if u, err = user(w.ctx, w.at, name); err != nil {
		return u, it, 0, err
	}
	if it, err = item(w.ctx, w.at, id); err != nil {
		return u, it, 0, err
	}
	_, err = w.one("read mark", readMark, into(&value), name, what, id)
	return u, it, value, err
}

func (w *work) mark(name, what string, id news.ID, value int) (err error) {
	if value == 0 {
		_, err = w.exec("drop mark", dropMark, name, what, id)
	} else {
		_, err = w.exec("set mark", setMark, name, what, id, value, w.now.UnixMilli())
	}
	return err
}
