package news

import (
	"errors"
	"slices"
	"testing"
)

// wrongFields are the fields that an *Invalid names.
func wrongFields(err error) (fields []string) {
	var invalid *Invalid
	if errors.As(err, &invalid) {
		for _, w := range invalid.Wrongs {
			fields = append(fields, w.Field)
		}
	}
	return fields
}

func TestWordsThatNobodySeesAreRefused(t *testing.T) {
	for _, words := range []string{
		"\u200b\u2060", "&nbsp;", "&#8203; &zwnj;", "\u00ad", "\u202e", "\ufeff", "\u0301", "\u0001\u007f", "\u2028", "\u3000 \u00a0", "\U000e0041", "\ufe0f\u200d", "\u3164", "\u2800",
	} {
		for field, d := range map[string]Draft{
			"title":   {Kind: Story, Title: words},
			"text":    {Kind: Comment, Parent: 1, Text: words},
			"options": {Kind: Poll, Title: "x", Options: []string{"x", words, words}},
		} {
			if d = d.Trimmed(); d.Title+d.Text == "" || field == "options" && len(d.Options) < 2 {
				continue // white space alone, which is nothing
			}
			if got := wrongFields(d.Check()); !slices.Equal(got, []string{field}) {
				t.Errorf("%s %q: wrong are %q", field, words, got)
			}
		}
		if got := wrongFields((Draft{Kind: Story, Title: "x", Text: words}).Trimmed().Check()); len(got) > 0 && got[0] != "text" {
			t.Errorf("the text of a story %q: wrong are %q", words, got)
		}
	}
	for _, words := range []string{"x", "?", "🚪", "日本", "e\u0301", "\u200bx", "&amp;", "€", "\u202eabc"} {
		if err := (Draft{Kind: Poll, Title: words, Text: words, Options: []string{words, words}}).Check(); err != nil {
			t.Errorf("%q: %v", words, err)
		}
	}
}
