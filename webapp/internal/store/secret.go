package store

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
)

// The simulator sends the password string with every item and waits 100 ms
// for the answer. PBKDF2 is in the standard library and at 10,000 rounds
// costs about 2 ms, once per user and process (see trusted); the strings it
// protects are random, ten characters out of 62, so guessing them is hard
// already. People, who choose worse ones, do not log in with this.
const (
	rounds  = 10_000
	saltLen = 16
	keyLen  = 32
)

// seal derives what is stored: scheme, rounds, salt and key, so that all of
// them can change without invalidating what is there.
func seal(secret string) string {
	salt := make([]byte, saltLen)
	rand.Read(salt) // never fails, crashes the program instead
	return fmt.Sprintf("$pbkdf2-sha256$%d$%s$%s", rounds,
		base64.RawStdEncoding.EncodeToString(salt),
		base64.RawStdEncoding.EncodeToString(derive(secret, salt, rounds)))
}

func derive(secret string, salt []byte, rounds int) []byte {
	key, err := pbkdf2.Key(sha256.New, secret, salt, rounds, keyLen)
	if err != nil { // only for lengths and rounds that are not ours
		panic(err)
	}
	return key
}

// verify returns nil, ErrWrongSecret, or an error about what is stored.
func verify(stored, secret string) error {
	var n int
	part := strings.Split(stored, "$")
	if len(part) != 5 || part[1] != "pbkdf2-sha256" {
		return fmt.Errorf("store: a user's secret is stored in a form that this program does not know")
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(part[3])
	key, err2 := base64.RawStdEncoding.DecodeString(part[4])
	if _, err := fmt.Sscanf(part[2], "%d", &n); err != nil || err1 != nil || err2 != nil || n < 1 {
		return fmt.Errorf("store: a user's stored secret is damaged")
	}
	if subtle.ConstantTimeCompare(derive(secret, salt, n), key) != 1 {
		return ErrWrongSecret
	}
	return nil
}

// trusted remembers which secrets have been verified or stored by this
// process, so that a user costs the slow derivation once. It holds keyed
// hashes under a key that is gone with the process, never a secret.
type trusted struct {
	key [32]byte

	mu   sync.Mutex
	seen map[string][sha256.Size]byte // mu; by name; at most maxTrusted
}

// maxTrusted bounds the memory at about 15 MB. When it is full it starts
// again from nothing: with so many users one derivation more is not noticed.
const maxTrusted = 100_000

func newTrusted() *trusted {
	t := &trusted{seen: make(map[string][sha256.Size]byte)}
	rand.Read(t.key[:])
	return t
}

func (t *trusted) mac(secret string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, t.key[:])
	h.Write([]byte(secret))
	h.Sum(sum[:0])
	return sum
}

func (t *trusted) knows(name, secret string) bool {
	got := t.mac(secret)
	t.mu.Lock()
	want, ok := t.seen[name]
	t.mu.Unlock()
	return ok && hmac.Equal(got[:], want[:])
}

func (t *trusted) add(name, secret string) {
	sum := t.mac(secret)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.seen) >= maxTrusted {
		clear(t.seen)
	}
	t.seen[name] = sum
}
