package page

import (
	"html"
	"html/template"
	"strconv"
	"strings"
	"time"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/store"
)

// maxIndent is the deepest indentation; what is deeper says its level.
const maxIndent = 10

// tree writes the replies of a thread. A thousand of them are most of what
// this site ever sends, and html/template takes 30 µs and 160 allocations for
// each: here they are written by hand. Always: what a user can choose goes
// through html.EscapeString, or comes from texts; everything else is a
// number, a date or a constant.
type tree struct {
	strings.Builder
	pages  *Pages
	viewer *news.User
	now    time.Time
	author string // of the head
	marks  map[news.ID]store.Marks
	here   map[news.ID]bool // the replies of this page
}

// sizeOfReply is what a reply takes without its text, roughly.
const sizeOfReply = 800

// maxTree is where a page ends although there are more replies, in bytes: the
// markup of a text may be ten times as long as the text. A thousand replies of
// the usual length are 1 MiB, and half as much more for a member.
const maxTree = 3 << 20

// replies says how many of them it has written.
func (t *tree) replies(all []store.Reply) (markup template.HTML, n int) {
	t.Grow(len(all) * sizeOfReply)
	t.here = make(map[news.ID]bool, len(all))
	for n < len(all) && t.Len() < maxTree {
		t.here[all[n].ID] = true
		t.reply(all[n])
		n++
	}
	return template.HTML(t.String()), n
}

func (t *tree) reply(r store.Reply) {
	t.WriteString("\n<li class=\"reply d")
	t.number(int64(min(r.Depth, maxIndent)))
	t.WriteString(`" id="item-`)
	t.number(int64(r.ID))
	t.WriteString(`" data-depth="`)
	t.number(int64(r.Depth))
	t.WriteString("\">\n<p class=\"meta\"><a class=\"by\" href=\"/user/")
	t.escaped(r.By)
	t.WriteString(`">`)
	t.escaped(r.By)
	t.WriteString("</a>")
	t.badges(r)
	t.WriteString(dot)
	t.moment(r.Item)
	if r.Depth > 0 {
		t.WriteString(dot + `<a href="`)
		if t.here[r.Parent] {
			t.WriteString("#item-")
		} else {
			t.WriteString("/item/")
		}
		t.number(int64(r.Parent))
		t.WriteString(`">parent</a>`)
	}
	t.level(r.Depth)
	t.WriteString("</p>\n<div class=\"text\">")
	t.text(r.Item)
	t.WriteString("\n</div>")
	t.actions(r.Item)
	t.WriteString("\n</li>")
}

const dot = ` <span class="dot" aria-hidden="true">·</span> `

func (t *tree) badges(r store.Reply) {
	if r.By == t.author {
		t.WriteString(` <span class="kind">author</span>`)
	}
	if r.State == news.Dead {
		t.WriteString(` <span class="kind">dead</span>`)
	}
	if r.Points != 1 && r.State == news.Alive && r.Kind == news.Comment {
		t.WriteString(dot)
		t.number(int64(r.Points))
		t.WriteString(" points")
	}
}

func (t *tree) moment(it news.Item) {
	var space [64]byte
	at := it.At.UTC()
	t.WriteString(`<a href="/item/`)
	t.number(int64(it.ID))
	t.WriteString(`"><time datetime="`)
	t.Write(at.AppendFormat(space[:0], time.RFC3339))
	t.WriteString(`" title="`)
	t.Write(at.AppendFormat(space[:0], exactly))
	t.WriteString(`">`)
	t.Write(age{it.At, t.now}.append(space[:0]))
	t.WriteString("</time></a>")
	if !it.Edited.IsZero() && it.State == news.Alive {
		t.WriteString(" (edited)")
	}
}

// level says to people how deep a reply is where the indentation ends, and to
// those who do not see it everywhere. It counts from 1.
func (t *tree) level(depth int) {
	t.WriteString(` <span class="`)
	if depth > maxIndent {
		t.WriteString("level")
	} else {
		t.WriteString("hidden")
	}
	t.WriteString(`">level `)
	t.number(int64(depth) + 1)
	t.WriteString("</span>")
}

func (t *tree) text(it news.Item) {
	if !it.VisibleTo(t.viewer) {
		t.WriteString("\n<p class=\"none\">[" + goneWord(it.State) + "]</p>")
		return
	}
	text := t.pages.replyText(it, t.viewer)
	if text == "" {
		text = "\n<p class=\"none\">This comment has no text.</p>"
	}
	t.WriteString(string(text))
}

func (t *tree) actions(it news.Item) {
	may := rightsOf(t.viewer, it, t.marks[it.ID], t.now)
	if !may.Up && !may.Down && !may.Undo && !may.Reply && !may.Edit && !may.Kill {
		return
	}
	t.WriteString("\n<p class=\"acts\">")
	if may.Up {
		t.button(it, "vote", "1", "Vote up", "▲", "vote")
	}
	if may.Down {
		t.button(it, "vote", "-1", "Vote down", "▼", "vote")
	}
	if may.Undo {
		t.button(it, "vote", "0", "Unvote", "Unvote", "")
	}
	if may.Reply {
		t.link(it, "#reply", "Reply", " to "+it.By)
	}
	if may.Edit {
		t.link(it, "/edit", "Edit", " your comment")
		t.link(it, "/delete", "Delete", " your comment")
	}
	if may.Kill && it.State == news.Dead {
		t.button(it, "kill", "0", "Revive", "Revive", "")
	} else if may.Kill {
		t.button(it, "kill", "1", "Kill", "Kill", "")
	}
	if may.Clear {
		t.button(it, "kill", "0", "Clear flags of", "Clear flags", "")
	}
	t.WriteString("</p>")
}

// button belongs to the form "act" of the layout.
func (t *tree) button(it news.Item, act, value, label, face, class string) {
	t.WriteString(`<button form="act" formaction="/item/`)
	t.number(int64(it.ID))
	t.WriteString("/" + act + `" name="value" value="` + value + `"`)
	if class != "" {
		t.WriteString(` class="` + class + `"`)
	}
	t.WriteString(` aria-label="` + label + ` the comment by `)
	t.escaped(it.By)
	t.WriteString(`">` + face + `</button> `)
}

// link says the rest to those who hear one link after the other.
func (t *tree) link(it news.Item, path, face, rest string) {
	t.WriteString(`<a href="/item/`)
	t.number(int64(it.ID))
	t.WriteString(path + `">` + face + `<span class="hidden">`)
	t.escaped(rest)
	t.WriteString("</span></a> ")
}

func (t *tree) number(n int64) {
	var space [20]byte
	t.Write(strconv.AppendInt(space[:0], n, 10))
}

func (t *tree) escaped(s string) { t.WriteString(html.EscapeString(s)) }
