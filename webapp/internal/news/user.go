package news

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxName is the longest user name in bytes; Hacker News stops at 15.
const MaxName = 32

// User is somebody who posts here.
type User struct {
	Name      string
	Karma     int
	About     string
	Joined    time.Time
	Simulated bool // came with the simulator's items
	Moderator bool
	ShowDead  bool // wants to see what was killed
}

// ValidName reports whether s may be a user's name: letters, digits, '_' and
// '-' of ASCII, so that no two names look alike and a name needs no escaping
// in an address.
func ValidName(s string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// Lengths of a password in characters. The upper one bounds the work of
// whoever sends a megabyte of it.
const (
	MinPassword = 10
	MaxPassword = 256
	minName     = 2
	// MaxAbout is the longest text about oneself, in characters.
	MaxAbout = 5000
)

// CheckAccount says what is wrong with a new account, as an *Invalid with the
// fields "name" and "password"; nil when nothing is.
func CheckAccount(name, password string) error {
	var wrongs []Wrong
	if !ValidName(name) || len(name) < minName {
		wrongs = append(wrongs, Wrong{"name", fmt.Sprintf("must be %d to %d letters, digits, '_' or '-'", minName, MaxName)})
	}
	return invalid(append(wrongs, wrongPassword("password", name, password)...))
}

// CheckPassword says what is wrong with a password for name, as an *Invalid
// that names the given field.
func CheckPassword(field, name, password string) error {
	return invalid(wrongPassword(field, name, password))
}

func wrongPassword(field, name, password string) []Wrong {
	why := ""
	switch n := utf8.RuneCountInString(password); {
	case !utf8.ValidString(password):
		why = "is not valid UTF-8"
	case n < MinPassword:
		why = fmt.Sprintf("must have at least %d characters", MinPassword)
	case n > MaxPassword:
		why = fmt.Sprintf("must have at most %d characters", MaxPassword)
	case name != "" && strings.Contains(strings.ToLower(password), strings.ToLower(name)) && n < len(name)+MinPassword:
		why = "must not be your name with a few characters around it"
	case strings.Count(password, password[:1]) == len(password):
		why = "must not be one character many times"
	}
	if why == "" {
		return nil
	}
	return []Wrong{{field, why}}
}

// CheckAbout says what is wrong with a text about oneself (field "about").
func CheckAbout(about string) error {
	return invalid(wrongText(nil, "about", about, MaxAbout))
}

func invalid(wrongs []Wrong) error {
	if len(wrongs) == 0 {
		return nil
	}
	return &Invalid{Wrongs: wrongs}
}
