package news

// MaxName is the longest user name in bytes; Hacker News stops at 15.
const MaxName = 32

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
