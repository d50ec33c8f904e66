package store

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/crypto/argon2"
)

// What is derived from a password, and how much work that is: OWASP's first
// choice for argon2id, 19 MiB and two passes, about 25 ms here. The simulator
// sends its string with every item and waits 100 ms, so a string is checked
// once per user and process and then known by a keyed hash (see trusted).
var argonMemory uint32 = 19 * 1024 // KiB; tests make it cheap

// The simulator's strings are random, ten characters of 62, which nobody
// guesses at any price; what counts is the 100 ms, of which argon2id for
// people would take more than half on a busy machine. These cost 2 ms.
const (
	stringMemory = 4 * 1024 // KiB
	stringTime   = 1
)

const (
	argonTime    = 2
	argonThreads = 1
	saltLen      = 16
	keyLen       = 32

	// maxDerivations is how many run at once: they would otherwise take all
	// processors and, at 19 MiB each, all memory of a small machine.
	maxDerivations = 2
	// maxDeriving is how many people wait for theirs: at 25 ms each the last of
	// them has his answer after 0.3 s here, and within 2 s on a busy machine.
	maxDeriving = 20
)

var encoding = base64.RawStdEncoding

var argon = argon2.IDKey // tests count its calls

// seal derives what is stored: scheme, costs, salt and key, so that all of
// them can change without invalidating what is there. It waits for its place.
func (s *Store) seal(ctx context.Context, secret string) (string, error) {
	leave, err := s.gate.enter(ctx, false)
	if err != nil {
		return "", err
	}
	defer leave()
	return seal(secret), nil
}

// sealString is seal for a string of the simulator, which waits for nobody who
// logs in.
func (s *Store) sealString(ctx context.Context, secret string) (string, error) {
	leave, err := s.gate.enter(ctx, true)
	if err != nil {
		return "", err
	}
	defer leave()
	return sealAt(secret, stringTime, stringMemory), nil
}

// verifyLogin is nil when the site opens to a secret, else ErrWrongSecret or an
// error about what is stored. Whoever it is, even nobody, a password and a string
// of the simulator are derived, so that the time says nothing: the second is 2 ms.
func (s *Store) verifyLogin(ctx context.Context, stored seals, secret string) error {
	leave, err := s.gate.enter(ctx, false)
	if err != nil {
		return err
	}
	defer leave()
	asPassword := verify(cmp.Or(stored.password, blind()), secret)
	asString := verify(cmp.Or(stored.secret, blindString()), secret)
	if stored.password != "" {
		return asPassword
	}
	return asString
}

// verifyString is nil when a string of the simulator is the stored one, else
// ErrWrongSecret or an error about what is stored. It waits for nobody who logs
// in. People have no such string: "".
func (s *Store) verifyString(ctx context.Context, stored, secret string) error {
	if stored == "" {
		return ErrWrongSecret
	}
	leave, err := s.gate.enter(ctx, true)
	if err != nil {
		return err
	}
	defer leave()
	return verify(stored, secret)
}

func seal(secret string) string { return sealAt(secret, argonTime, argonMemory) }

func sealAt(secret string, time, memory uint32) string {
	salt := make([]byte, saltLen)
	rand.Read(salt) // never fails, crashes the program instead
	key := argon([]byte(secret), salt, time, memory, argonThreads, keyLen)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, time, argonThreads,
		encoding.EncodeToString(salt), encoding.EncodeToString(key))
}

// What is checked where there is no password, or no string of the simulator:
// nobody knows what they were derived from.
var (
	blind       = sync.OnceValue(func() string { return seal(rand.Text()) })
	blindString = sync.OnceValue(func() string { return sealAt(rand.Text(), stringTime, stringMemory) })
)

var errDamaged = errors.New("store: a user's stored secret is damaged or in a form that this program does not know")

// verify compares in constant time.
func verify(stored, secret string) error {
	scheme, _, _ := strings.Cut(strings.TrimPrefix(stored, "$"), "$")
	derive := map[string]func(part []string, secret string) (got, want []byte, err error){
		"argon2id":      deriveArgon,
		"pbkdf2-sha256": derivePBKDF,
	}[scheme]
	if derive == nil {
		return errDamaged
	}
	got, want, err := derive(strings.Split(stored, "$"), secret)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return ErrWrongSecret
	}
	return nil
}

func deriveArgon(part []string, secret string) (got, want []byte, err error) {
	var version, memory, time uint32
	var threads uint8
	if len(part) != 6 {
		return nil, nil, errDamaged
	}
	_, err1 := fmt.Sscanf(part[2], "v=%d", &version)
	_, err2 := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &memory, &time, &threads)
	salt, err3 := encoding.DecodeString(part[4])
	want, err4 := encoding.DecodeString(part[5])
	if errors.Join(err1, err2, err3, err4) != nil || version != argon2.Version || time < 1 || threads < 1 || len(want) == 0 || memory > 1<<20 {
		return nil, nil, errDamaged
	}
	return argon([]byte(secret), salt, time, memory, threads, uint32(len(want))), want, nil
}

// derivePBKDF reads what the first version of this program stored.
func derivePBKDF(part []string, secret string) (got, want []byte, err error) {
	var rounds int
	if len(part) != 5 {
		return nil, nil, errDamaged
	}
	_, err1 := fmt.Sscanf(part[2], "%d", &rounds)
	salt, err2 := encoding.DecodeString(part[3])
	want, err3 := encoding.DecodeString(part[4])
	if errors.Join(err1, err2, err3) != nil || rounds < 1 || len(want) == 0 {
		return nil, nil, errDamaged
	}
	got, err = pbkdf2.Key(sha256.New, secret, salt, rounds, len(want))
	return got, want, err
}

// seals are what is stored of somebody's passwords. The password opens the site;
// where there is none, the string does. POST /post is opened by the simulator's
// string alone, and that stays good when its user sets a password: nothing
// that the simulator sends may be lost.
type seals struct {
	known    bool   // there is such a user
	secret   string // of the simulator's string; "" for people who registered
	password string // "" until one is set
}

func (s *Store) sealed(ctx context.Context, name string) (stored seals, err error) {
	stored.known, err = one(ctx, at{base: s.r}, "read user", readSeal, into(&stored.secret, &stored.password), name)
	return stored, err
}

// trusted remembers which secrets have been verified or stored by this
// process, so that a user costs the slow derivation once. It holds keyed
// hashes under a key that is gone with the process, never a secret.
type trusted struct {
	key [32]byte

	mu   sync.Mutex
	seen map[string][sha256.Size]byte // mu; by name; at most maxTrusted
	busy map[string]chan struct{}     // mu; by name; closed when he has been checked
}

// maxTrusted bounds the memory at about 15 MB. When it is full it starts
// again from nothing: with so many users one derivation more is not noticed.
const maxTrusted = 100_000

func newTrusted() *trusted {
	t := &trusted{seen: make(map[string][sha256.Size]byte), busy: make(map[string]chan struct{})}
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

// alone lets one at a time be checked for a name: of a hundred posts that a new
// user sends at once, the first pays for the derivation and the others know.
func (t *trusted) alone(ctx context.Context, name string) (leave func(), err error) {
	for {
		t.mu.Lock()
		before, busy := t.busy[name]
		if !busy {
			mine := make(chan struct{})
			t.busy[name] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.busy, name)
				t.mu.Unlock()
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-before:
		case <-ctx.Done():
			return nil, unavailable("wait for a password to be checked", ctx.Err())
		}
	}
}
