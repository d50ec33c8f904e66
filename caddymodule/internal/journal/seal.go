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

// seal turns a record into what is stored. bind is what the record belongs to:
// it cannot be put under another name.
func (s *sealer) seal(plain, bind []byte) ([]byte, error) {
	if s == nil {
		return append([]byte{recordPlain}, plain...), nil
	}
	out := make([]byte, 1+saltSize, 1+saltSize+len(plain)+16)
	out[0] = recordSealed
	_, _ = rand.Read(out[1:])
	gcm, err := s.gcm(out[1:])
	if err != nil {
		return nil, fmt.Errorf("journal: seal: %w", err)
	}
	return gcm.Seal(out, make([]byte, gcm.NonceSize()), plain, bind), nil
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
