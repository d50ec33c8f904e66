package journal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
)

// sealer encrypts records, if there is a secret. Nil does not.
//
// Each record has a key of its own, derived from the secret and 32 random bytes
// (HKDF, RFC 5869), for AES-256-GCM. A secret that seals all records itself, with
// random nonces, may do so 2^32 times (SP 800-38D, 8.3): ten days at 5,000 a second.
type sealer struct{ secret []byte }

// The first byte of a stored record.
const (
	recordPlain  = 1
	recordSealed = 2
)

const saltSize = 32

func newSealer(secret []byte) (*sealer, error) {
	if secret == nil {
		return nil, nil
	}
	if len(secret) != 32 {
		return nil, fmt.Errorf("journal: the key has %d bytes, want 32", len(secret))
	}
	return &sealer{secret: secret}, nil
}

func (s *sealer) gcm(salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, s.secret, salt, "portner journal record", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// sealEnd is how much longer a record gets behind its end.
const sealEnd = 16

// room is how much is free before a record that is to be sealed.
func (s *sealer) room() int {
	if s == nil {
		return 1
	}
	return 1 + saltSize
}

// seal turns what is in b, behind at and the room, into what is stored from at on;
// in place, if there is room for sealEnd. bind is what the record belongs to: it
// cannot be put under another name.
func (s *sealer) seal(b []byte, at int, bind []byte) ([]byte, error) {
	if s == nil {
		b[at] = recordPlain
		return b, nil
	}
	b[at] = recordSealed
	begin := at + s.room()
	_, _ = rand.Read(b[at+1 : begin])
	gcm, err := s.gcm(b[at+1 : begin])
	if err != nil {
		return nil, fmt.Errorf("journal: seal: %w", err)
	}
	return gcm.Seal(b[:begin], make([]byte, gcm.NonceSize()), b[begin:], bind), nil
}

// open undoes seal.
func (s *sealer) open(stored, bind []byte) ([]byte, error) {
	switch {
	case len(stored) > 0 && stored[0] == recordPlain:
		return stored[1:], nil
	case len(stored) <= 1+saltSize || stored[0] != recordSealed:
		return nil, fmt.Errorf("%w: a record of no known form", ErrDamaged)
	case s == nil:
		return nil, fmt.Errorf("%w: the record is sealed", ErrSecret)
	}
	gcm, err := s.gcm(stored[1 : 1+saltSize])
	if err != nil {
		return nil, fmt.Errorf("journal: open a sealed record: %w", err)
	}
	plain, err := gcm.Open(nil, make([]byte, gcm.NonceSize()), stored[1+saltSize:], bind)
	if err != nil {
		return nil, fmt.Errorf("%w, or a damaged record", ErrSecret)
	}
	return plain, nil
}

// ReadSecret reads a key file for Options.Secret: 64 hexadecimal digits, as
// `openssl rand -hex 32` writes them, readable by its owner alone.
func ReadSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("journal: key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("journal: key file %s: mode %04o lets others read it, want 0600", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("journal: key file: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) != 32 {
		return nil, fmt.Errorf("journal: key file %s: want 64 hexadecimal digits", path)
	}
	return secret, nil
}
