package route

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

func isPrintable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}
