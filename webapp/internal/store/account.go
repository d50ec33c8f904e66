package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"time"

	"github.com/portner/portner/webapp/internal/news"
)

const (
	userColumns = `users.name, users.karma, users.about, users.created_at, CASE WHEN users.secret <> '' THEN 1 ELSE 0 END, users.moderator, users.showdead`

	readUser      = `SELECT ` + userColumns + ` FROM users WHERE name = $1`
	nameTaken     = `SELECT 1 FROM users WHERE lower(name) = lower($1) LIMIT 1`
	setPassword   = `UPDATE users SET password = $2 WHERE name = $1`
	setProfile    = `UPDATE users SET about = $2, showdead = $3 WHERE name = $1`
	setModerator  = `UPDATE users SET moderator = $2 WHERE name = $1`
	addKarma      = `UPDATE users SET karma = karma + $2 WHERE name = $1`
	addSession    = `INSERT INTO sessions (id, name, kind, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)`
	readSession   = `SELECT ` + userColumns + `, s.kind, s.expires_at FROM sessions s JOIN users ON users.name = s.name WHERE s.id = $1 AND s.expires_at > $2`
	endSession    = `DELETE FROM sessions WHERE id = $1`
	endOthers     = `DELETE FROM sessions WHERE name = $1 AND id <> $2`
	endExpired    = `DELETE FROM sessions WHERE expires_at <= $1`
	countSessions = `SELECT count(*) FROM sessions WHERE name = $1`
)

func scanUser(rows *sql.Rows, also ...any) (u news.User, err error) {
	var joined int64
	err = rows.Scan(append([]any{&u.Name, &u.Karma, &u.About, &joined, &u.Simulated, &u.Moderator, &u.ShowDead}, also...)...)
	u.Joined = time.UnixMilli(joined).UTC()
	return u, err
}

// User is the user of a name. ErrNoSuchUser.
func (s *Store) User(ctx context.Context, name string) (news.User, error) {
	return user(ctx, at{base: s.r}, name)
}

func user(ctx context.Context, a at, name string) (news.User, error) {
	scan := func(rows *sql.Rows) (news.User, error) { return scanUser(rows) }
	found, err := many(ctx, a, "read user", scan, readUser, name)
	if err != nil {
		return news.User{}, err
	}
	if len(found) == 0 {
		return news.User{}, fmt.Errorf("store: user %q: %w", name, ErrNoSuchUser)
	}
	return found[0], nil
}

// Register creates a user. An *Invalid says what is wrong with name or
// password, ErrNameTaken that somebody has the name.
func (s *Store) Register(ctx context.Context, name, password string) (u news.User, err error) {
	if err := news.CheckAccount(name, password); err != nil {
		return news.User{}, err
	}
	taken, err := one(ctx, at{base: s.r}, "look for name", nameTaken, into(new(int)), name)
	if err != nil {
		return news.User{}, err
	}
	if taken {
		return news.User{}, ErrNameTaken
	}
	sealed, err := s.seal(ctx, password)
	if err != nil {
		return news.User{}, err
	}
	err = s.change(ctx, func(w *work) error {
		taken, err := w.one("look for name", nameTaken, into(new(int)), name)
		switch {
		case err != nil:
			return err
		case taken:
			return ErrNameTaken
		}
		if _, err := w.exec("add user", addUser, name, "", sealed, w.now.UnixMilli()); err != nil {
			return err
		}
		u, err = user(w.ctx, w.at, name)
		return err
	})
	return u, err
}

// Login is somebody who knew his password. It is good until that is changed.
type Login struct {
	news.User
	checked seals // what his password was checked against
}

// still is nil while a login is good, else ErrWrongSecret.
func (w *work) still(who Login) error {
	var now seals
	var err error
	now.known, err = w.one("read user", readSeal, into(&now.secret, &now.password), who.Name)
	if err == nil && now != who.checked {
		return ErrWrongSecret
	}
	return err
}

// CheckPassword is the user whose name and password these are, else
// ErrWrongSecret. Names that nobody has, people and users of the simulator take
// equally long. Who asks often must be slowed down by the caller (package
// session does). ErrBusy when too many ask at once.
func (s *Store) CheckPassword(ctx context.Context, name, password string) (Login, error) {
	if len(password) > 4*news.MaxPassword {
		password = "" // no password is so long; do not hash a megabyte
	}
	stored, err := s.sealed(ctx, name)
	if err != nil {
		return Login{}, err
	}
	if err := s.verifyLogin(ctx, stored, password); err != nil {
		return Login{}, err
	}
	u, err := s.User(ctx, name)
	return Login{u, stored}, err
}

// SetPassword gives somebody who knew the old password a new one and ends his
// sessions, but the one that keep names ("" keeps none). ErrWrongSecret when
// another change was faster. The login that it returns is good for the new one.
func (s *Store) SetPassword(ctx context.Context, who Login, password, keep string) (Login, error) {
	if err := news.CheckPassword("password", who.Name, password); err != nil {
		return Login{}, err
	}
	sealed, err := s.seal(ctx, password)
	if err != nil {
		return Login{}, err
	}
	err = s.change(ctx, func(w *work) error {
		if err := w.still(who); err != nil {
			return err
		}
		if _, err := w.exec("set password", setPassword, who.Name, sealed); err != nil {
			return err
		}
		_, err := w.exec("end sessions", endOthers, who.Name, hashed(keep))
		return err
	})
	who.checked.password = sealed
	return who, err
}

// SetProfile stores what a user says about himself and whether he wants to
// see the dead; nothing else of u counts.
func (s *Store) SetProfile(ctx context.Context, u news.User) error {
	if err := news.CheckAbout(u.About); err != nil {
		return err
	}
	return s.change(ctx, func(w *work) error {
		_, err := w.exec("set profile", setProfile, u.Name, u.About, number(u.ShowDead))
		w.touch(news.UserTag(u.Name))
		return err
	})
}

// SetModerator makes a user a moderator, or no longer one.
func (s *Store) SetModerator(ctx context.Context, name string, is bool) error {
	return s.change(ctx, func(w *work) error {
		n, err := w.exec("set moderator", setModerator, name, number(is))
		if err == nil && n == 0 {
			return fmt.Errorf("store: user %q: %w", name, ErrNoSuchUser)
		}
		return err
	})
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// SessionKind says what a session is for.
type SessionKind string

const (
	Web SessionKind = "web" // a browser's cookie
	API SessionKind = "api" // a program's token
)

// Session is somebody who is logged in.
type Session struct {
	User    news.User
	Kind    SessionKind
	Expires time.Time
}

// LogIn starts a session of somebody who knew his password. ErrWrongSecret when it
// was changed since: that ends all sessions, and one that was about to begin is
// among them.
func (s *Store) LogIn(ctx context.Context, who Login, kind SessionKind, lifetime time.Duration) (key string, err error) {
	return s.startSession(ctx, who.Name, kind, lifetime, func(w *work) error { return w.still(who) })
}

// StartSession starts a session of somebody who has shown no password, because he
// has just registered.
func (s *Store) StartSession(ctx context.Context, name string, kind SessionKind, lifetime time.Duration) (key string, err error) {
	return s.startSession(ctx, name, kind, lifetime, func(*work) error { return nil })
}

// startSession logs somebody in who may, and returns the key that the client
// holds; the database has its hash alone. Sessions that have expired are removed.
func (s *Store) startSession(ctx context.Context, name string, kind SessionKind, lifetime time.Duration, may func(*work) error) (key string, err error) {
	key = rand.Text() + rand.Text() // 256 bits
	err = s.change(ctx, func(w *work) error {
		if err := may(w); err != nil {
			return err
		}
		if _, err := w.exec("remove old sessions", endExpired, w.now.UnixMilli()); err != nil {
			return err
		}
		_, err := w.exec("start session", addSession, hashed(key), name, kind, w.now.UnixMilli(), w.now.Add(lifetime).UnixMilli())
		return err
	})
	return key, err
}

// Session is the session of a key. ErrNoSession.
func (s *Store) Session(ctx context.Context, key string) (Session, error) {
	scan := func(rows *sql.Rows) (ses Session, err error) {
		var expires int64
		ses.User, err = scanUser(rows, &ses.Kind, &expires)
		ses.Expires = time.UnixMilli(expires).UTC()
		return ses, err
	}
	found, err := many(ctx, at{base: s.r}, "read session", scan, readSession, hashed(key), time.Now().UnixMilli())
	if err != nil {
		return Session{}, err
	}
	if len(found) == 0 {
		return Session{}, ErrNoSession
	}
	return found[0], nil
}

// EndSession logs out. Ending one that is not there is no error.
func (s *Store) EndSession(ctx context.Context, key string) error {
	return s.change(ctx, func(w *work) error {
		_, err := w.exec("end session", endSession, hashed(key))
		return err
	})
}

// EndOtherSessions logs a user out everywhere but where key is held.
func (s *Store) EndOtherSessions(ctx context.Context, name, key string) error {
	return s.change(ctx, func(w *work) error {
		_, err := w.exec("end sessions", endOthers, name, hashed(key))
		return err
	})
}

// CountSessions is how many sessions a user has.
func (s *Store) CountSessions(ctx context.Context, name string) (n int, err error) {
	_, err = one(ctx, at{base: s.r}, "count sessions", countSessions, into(&n), name)
	return n, err
}

// hashed is what is stored of a key. The key is random and long, so a plain
// hash is enough.
func hashed(key string) string {
	sum := sha256.Sum256([]byte(key))
	return encoding.EncodeToString(sum[:])
}
