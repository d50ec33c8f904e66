package page

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/store"
)

const markHint = "Blank lines divide paragraphs, *stars* emphasise, two blanks before a line make it code."

// lines has the line ends that browsers send as one character.
func lines(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }

// submittable are the kinds that the form of new items offers.
var submittable = []news.Kind{news.Story, news.Poll, news.Job}

func kindAsked(s string) news.Kind {
	if k := news.Kind(s); slices.Contains(submittable, k) {
		return k
	}
	return news.Story
}

func (p *Pages) submitPage(c echo.Context, me *news.User, kind news.Kind) (formView, *form) {
	f := &form{ID: "submit", Action: "/submit", Button: "Submit", Hidden: []pair{{"kind", string(kind)}}}
	f.Fields = draftFields(kind)
	f.Fields[0].First = true
	if kind == news.Poll {
		f.Fields = append(f.Fields, field{Name: "options", Label: "Options", Type: "textarea", Rows: 5, Hint: "One on a line, 2 to 20."})
	}
	names := map[news.Kind]string{news.Story: "Submit a story", news.Poll: "Ask in a poll", news.Job: "Offer work"}
	v := formView{view: p.view(c, names[kind], "/submit"), Heading: names[kind], Forms: []*form{f}}
	v.Unlisted = true
	for _, k := range submittable {
		if k != kind && (k != news.Job || me.Moderator) {
			v.Also = append(v.Also, link{names[k], "/submit?kind=" + string(k)})
		}
	}
	return v, f
}

// draftFields are what a new item and one that is edited have in common.
func draftFields(kind news.Kind) []field {
	title := field{Name: "title", Label: "Title", Type: "text", Hint: "At most 80 characters. “Ask HN: …” is a question, “Show HN: …” your own work."}
	address := field{Name: "url", Label: "Address", Type: "text", Mode: "url", Hint: "https://… Leave it empty for a question or a text of your own."}
	text := field{Name: "text", Label: "Text", Type: "textarea", Rows: 8, Hint: markHint}
	switch kind {
	case news.Comment:
		return []field{text}
	case news.Poll:
		title.Hint = "At most 80 characters."
		return []field{title, text}
	}
	return []field{title, address, text}
}

// submitForm takes title and url of the query, for bookmarklets.
func (p *Pages) submitForm(c echo.Context, me *news.User) error {
	v, f := p.submitPage(c, me, kindAsked(c.QueryParam("kind")))
	for i := range f.Fields {
		if name := f.Fields[i].Name; name == "title" || name == "url" {
			f.Fields[i].Value = parameter(c, name)
		}
	}
	return p.show(c, http.StatusOK, "form", v)
}

// key is the door's name for a write that it keeps: it may bring it twice.
func key(c echo.Context) string { return c.Request().Header.Get("Idempotency-Key") }

// draft reads what was typed; nothing else of an item is its author's to say.
func draft(c echo.Context, kind news.Kind) news.Draft {
	d := news.Draft{Kind: kind, Title: asked(c, "title"), Text: asked(c, "text"), Key: key(c)}
	switch kind {
	case news.Poll:
		d.Options = strings.Split(lines(asked(c, "options")), "\n")
	case news.Story, news.Job:
		d.URL = asked(c, "url")
	}
	return d
}

func (p *Pages) submit(c echo.Context, me *news.User) error {
	kind := kindAsked(asked(c, "kind"))
	id, err := p.store.Submit(c.Request().Context(), me.Name, draft(c, kind))
	var there *store.Discussed
	switch {
	case errors.As(err, &there):
		return c.Redirect(http.StatusSeeOther, fmt.Sprintf("/item/%d?known=1", there.ID))
	case err != nil:
		v, f := p.submitPage(c, me, kind)
		f.typed(c)
		return p.again(c, v, f, err)
	}
	return c.Redirect(http.StatusSeeOther, fmt.Sprintf("/item/%d", id))
}

func replyForm(to news.Item) *form {
	label := "Your comment"
	if to.Kind == news.Comment {
		label = "Your answer"
	}
	return &form{ID: "reply", Action: fmt.Sprintf("/item/%d/reply", to.ID), Button: "Post", Fields: []field{
		{Name: "text", Label: label, Type: "textarea", Rows: 5, Hint: markHint},
	}}
}

func (p *Pages) reply(c echo.Context, me *news.User) error {
	to, err := p.store.Item(c.Request().Context(), itemAsked(c))
	if err != nil {
		return err
	}
	d := news.Draft{Kind: news.Comment, Parent: to.ID, Text: asked(c, "text"), Key: key(c)}
	id, err := p.store.Submit(c.Request().Context(), me.Name, d)
	if err != nil {
		f := replyForm(to)
		f.typed(c)
		status := f.blame(c, err)
		if status == 0 || news.MayReply(to) != nil {
			return err
		}
		return p.showItem(c, status, to.ID, f)
	}
	return c.Redirect(http.StatusSeeOther, fmt.Sprintf("/item/%d#item-%d", to.ID, id))
}

// itemAsked is the item of the address; 0, which no item has, when that names
// none.
func itemAsked(c echo.Context) news.ID {
	id, err := news.ParseID(c.Param("id"))
	if err != nil {
		return 0
	}
	return id
}

// mine reads the item that somebody wants to change, where he may.
func (p *Pages) mine(c echo.Context, me *news.User) (news.Item, error) {
	it, err := p.store.Item(c.Request().Context(), itemAsked(c))
	if err != nil {
		return it, err
	}
	return it, me.MayEdit(it, time.Now())
}

func (p *Pages) editPage(c echo.Context, it news.Item) (formView, *form) {
	f := &form{ID: "edit", Action: fmt.Sprintf("/item/%d/edit", it.ID), Button: "Save", Fields: draftFields(it.Kind)}
	values := map[string]string{"title": it.Title, "url": it.URL, "text": it.Body}
	for i := range f.Fields {
		f.Fields[i].Value = values[f.Fields[i].Name]
	}
	page := fmt.Sprintf("/item/%d", it.ID)
	v := formView{view: p.view(c, "Edit", ""), Heading: "Edit", Forms: []*form{f}, Also: []link{{"Leave it as it is", page}, {"Delete it", page + "/delete"}}}
	v.Unlisted = true
	return v, f
}

func (p *Pages) editForm(c echo.Context, me *news.User) error {
	it, err := p.mine(c, me)
	if err != nil {
		return err
	}
	v, _ := p.editPage(c, it)
	return p.show(c, http.StatusOK, "form", v)
}

func (p *Pages) edit(c echo.Context, me *news.User) error {
	it, err := p.mine(c, me)
	if err != nil {
		return err
	}
	if err := p.store.Edit(c.Request().Context(), me.Name, it.ID, draft(c, it.Kind)); err != nil {
		v, f := p.editPage(c, it)
		f.typed(c)
		return p.again(c, v, f, err)
	}
	return c.Redirect(http.StatusSeeOther, fmt.Sprintf("/item/%d", it.ID))
}

func (p *Pages) deleteForm(c echo.Context, me *news.User) error {
	it, err := p.mine(c, me)
	if err != nil {
		return err
	}
	page := fmt.Sprintf("/item/%d", it.ID)
	f := &form{ID: "delete", Action: page + "/delete", Button: "Delete for good", Danger: true}
	v := formView{view: p.view(c, "Delete", ""), Heading: "Delete this?", Forms: []*form{f}, Also: []link{{"Leave it as it is", page}},
		Intro: "Its words are gone for good then. Its place in the discussion stays, for the sake of those who answered."}
	v.Unlisted = true
	return p.show(c, http.StatusOK, "form", v)
}

func (p *Pages) remove(c echo.Context, me *news.User) error {
	id := itemAsked(c)
	if err := p.store.Delete(c.Request().Context(), me.Name, id); err != nil {
		return err
	}
	return c.Redirect(http.StatusSeeOther, fmt.Sprintf("/item/%d", id))
}
