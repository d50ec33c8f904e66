package news

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Draft is what a person submits or makes of it later. Its zero fields are
// empty form fields. Check it before it is stored; the store does so too.
type Draft struct {
	Kind    Kind   // Story, Poll or Comment; jobs are the moderators'
	Parent  ID     // of a Comment
	Title   string // of a head
	URL     string // of a Story; "" for a question
	Text    string
	Options []string // of a Poll

	// Key is the sender's name for this submission (Idempotency-Key): when it comes
	// again it is the same one. Empty: it has none.
	Key string
}

// Bounds of what people submit. The simulator's items may be larger.
const (
	MaxDraftTitle  = 80
	MaxDraftURL    = 2000
	MaxDraftText   = 40_000
	MinPollOptions = 2
	MaxPollOptions = 20
)

// Trimmed is the draft without white space around its values, with empty
// options left out and line ends as one character.
func (d Draft) Trimmed() Draft {
	d.Title = strings.Join(strings.Fields(d.Title), " ")
	d.URL = strings.TrimSpace(d.URL)
	d.Text = strings.TrimRightFunc(strings.Trim(strings.ReplaceAll(d.Text, "\r\n", "\n"), "\n"), unicode.IsSpace)
	if strings.TrimSpace(d.Text) == "" {
		d.Text = ""
	}
	var options []string
	for _, o := range d.Options {
		if o = strings.Join(strings.Fields(o), " "); o != "" {
			options = append(options, o)
		}
	}
	d.Options = options
	return d
}

// Check says everything that is wrong with a trimmed draft, as an *Invalid
// whose fields are "title", "url", "text", "options" and "parent"; nil when
// nothing is.
func (d Draft) Check() error {
	var wrongs []Wrong
	wrong := func(field, why string, args ...any) { wrongs = append(wrongs, Wrong{field, fmt.Sprintf(why, args...)}) }
	switch d.Kind {
	case Story, Poll, Job:
		if d.Title == "" {
			wrong("title", "must not be empty")
		}
		if d.Parent != 0 {
			wrong("parent", "is for comments")
		}
	case Comment:
		if d.Text == "" {
			wrong("text", "must not be empty")
		}
		if d.Parent < 1 || d.Parent > MaxID {
			wrong("parent", "must name what the comment answers")
		}
		if d.Title != "" {
			wrong("title", "is not for comments")
		}
	default:
		wrong("kind", "must be story, poll or comment")
	}
	wrongs = wrongWords(wrongs, "title", d.Title, MaxDraftTitle)
	wrongs = wrongText(wrongs, "url", d.URL, MaxDraftURL)
	wrongs = wrongWords(wrongs, "text", d.Text, MaxDraftText)
	if d.URL != "" {
		if _, ok := ParseLink(d.URL); !ok {
			wrong("url", "must begin with http:// or https:// and name a host")
		} else if d.Kind != Story && d.Kind != Job {
			wrong("url", "is for stories")
		}
	}
	if d.Kind == Poll {
		if n := len(d.Options); n < MinPollOptions || n > MaxPollOptions {
			wrong("options", "must be %d to %d, one on a line", MinPollOptions, MaxPollOptions)
		}
		for _, o := range d.Options {
			before := len(wrongs)
			if wrongs = wrongWords(wrongs, "options", o, MaxDraftTitle); len(wrongs) > before {
				break
			}
		}
	} else if len(d.Options) > 0 {
		wrong("options", "are for polls")
	}
	return invalid(wrongs)
}

// wrongWords is wrongText of what people are to read. Words that nobody sees
// would be a title that cannot be clicked, or a comment of nothing.
func wrongWords(wrongs []Wrong, field, s string, limit int) []Wrong {
	before := len(wrongs)
	wrongs = wrongText(wrongs, field, s, limit)
	if len(wrongs) == before && s != "" && !Visible(Line(s)) {
		return append(wrongs, Wrong{field, "holds nothing that can be seen"})
	}
	return wrongs
}

func wrongText(wrongs []Wrong, field, s string, limit int) []Wrong {
	switch n := utf8.RuneCountInString(s); {
	case !utf8.ValidString(s):
		return append(wrongs, Wrong{field, "is not valid UTF-8"})
	case strings.IndexByte(s, 0) >= 0:
		return append(wrongs, Wrong{field, "holds a NUL character"})
	case n > limit:
		return append(wrongs, Wrong{field, fmt.Sprintf("is %d characters long; the longest is %d", n, limit)})
	}
	return wrongs
}
