package store

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/portner/portner/webapp/internal/news"
)

const (
	readSubmitted = `SELECT item FROM submitted WHERE key = $1`
	addSubmitted  = `INSERT INTO submitted (key, item, at) VALUES ($1, $2, $3)`
	forgetOld     = `DELETE FROM submitted WHERE at < $1`
)

// keyLife is how long a submission is known by its key. A door that keeps writes
// while the site is away brings them as soon as it is back.
const keyLife = 7 * 24 * time.Hour

// keyOf is a user's Idempotency-Key as it is stored: his alone, and not longer than
// any other.
func keyOf(name, key string) string {
	sum := sha256.Sum256([]byte(name + "\x00" + key))
	return hex.EncodeToString(sum[:16])
}

// submitted finds what came of a submission before; 0: it is new, or has no key.
func (w *work) submitted(name, key string) (id news.ID, err error) {
	if key == "" {
		return 0, nil
	}
	_, err = w.one("look for key", readSubmitted, into(&id), keyOf(name, key))
	return id, err
}

// remember notes, in the transaction that stores it, what came of a submission.
func (w *work) remember(name, key string, id news.ID) error {
	if key == "" {
		return nil
	}
	if _, err := w.exec("forget keys", forgetOld, w.now.Add(-keyLife).UnixMilli()); err != nil {
		return err
	}
	_, err := w.exec("remember key", addSubmitted, keyOf(name, key), id, w.now.UnixMilli())
	return err
}
