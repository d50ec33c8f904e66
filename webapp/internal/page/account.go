package page

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/session"
	"github.com/portner/portner/webapp/internal/store"
)

func loginPath(back string) string { return "/login?goto=" + url.QueryEscape(back) }

// within is where somebody wants to go, as an address within this site that is
// well-formed: it stands in a header.
func within(wanted string) string {
	u, err := url.Parse(session.Local(wanted))
	if err != nil {
		return "/"
	}
	return session.Local(u.String())
}

// LoginPath asks a visitor to log in and brings him back here.
func (v view) LoginPath() string { return loginPath(v.Path) }

func (p *Pages) loginPage(c echo.Context, back string) (formView, *form) {
	f := &form{ID: "login", Action: "/login", Button: "Log in", Hidden: []pair{{"goto", back}}, Fields: []field{
		{Name: "name", Label: "Name", Type: "text", Complete: "username", First: true},
		{Name: "password", Label: "Password", Type: "password", Complete: "current-password"},
	}}
	v := formView{view: p.view(c, "Log in", "/login"), Heading: "Log in", Forms: []*form{f},
		Also: []link{{"No account yet? Register", "/register?goto=" + url.QueryEscape(back)}}}
	v.Unlisted = true
	return v, f
}

func (p *Pages) registerPage(c echo.Context, back string) (formView, *form) {
	f := &form{ID: "register", Action: "/register", Button: "Register", Hidden: []pair{{"goto", back}}, Fields: []field{
		{Name: "name", Label: "Name", Type: "text", Complete: "username", First: true, Hint: "2 to 32 letters, digits, “_” or “-”. Everybody sees it, and it stays."},
		{Name: "password", Label: "Password", Type: "password", Complete: "new-password", Hint: "At least 10 characters."},
	}}
	v := formView{view: p.view(c, "Register", "/login"), Heading: "Register", Forms: []*form{f},
		Also: []link{{"You have an account? Log in", loginPath(back)}}}
	v.Unlisted = true
	return v, f
}

func (p *Pages) loginForm(c echo.Context) error    { return p.door(c, p.loginPage) }
func (p *Pages) registerForm(c echo.Context) error { return p.door(c, p.registerPage) }

// door shows the way in, to those who are outside.
func (p *Pages) door(c echo.Context, page func(echo.Context, string) (formView, *form)) error {
	back := within(c.QueryParam("goto"))
	if session.User(c) != nil {
		return c.Redirect(http.StatusSeeOther, back)
	}
	v, _ := page(c, back)
	return p.show(c, http.StatusOK, "form", v)
}

func (p *Pages) login(c echo.Context) error { return p.enter(c, p.loginPage, p.sessions.Login) }
func (p *Pages) register(c echo.Context) error {
	return p.enter(c, p.registerPage, p.sessions.Register)
}

func (p *Pages) enter(c echo.Context, page func(echo.Context, string) (formView, *form), begin func(echo.Context, string, string) (*news.User, error)) error {
	back := within(asked(c, "goto"))
	if _, err := begin(c, asked(c, "name"), asked(c, "password")); err != nil {
		v, f := page(c, back)
		f.typed(c)
		return p.again(c, v, f, err)
	}
	return c.Redirect(http.StatusSeeOther, back)
}

// logout needs nobody who is logged in: it may have been done in another
// window.
func (p *Pages) logout(c echo.Context) error {
	if err := p.sessions.Logout(c); err != nil {
		return err
	}
	return c.Redirect(http.StatusSeeOther, "/")
}

func (p *Pages) settingsPage(c echo.Context, me *news.User) (v formView, about, password *form) {
	about = &form{ID: "profile", Heading: "About you", Action: "/settings", Button: "Save", Fields: []field{
		{Name: "about", Label: "About", Type: "textarea", Rows: 6, Value: me.About, Hint: "Everybody can read this on your page. Blank lines divide paragraphs, *stars* emphasise."},
		{Name: "showdead", Label: "Show the dead", Type: "checkbox", Checked: me.ShowDead, Hint: "What flags or moderators have killed."},
	}}
	password = &form{ID: "secret", Heading: "Password", Action: "/settings/password", Button: "Change password", Of: me.Name,
		Intro: "Everywhere else you will be logged out, and programs need new tokens.", Fields: []field{
			{Name: "old", Label: "Old password", Type: "password", Complete: "current-password"},
			{Name: "password", Label: "New password", Type: "password", Complete: "new-password", Hint: "At least 10 characters."},
		}}
	v = formView{view: p.view(c, "Settings", "/settings"), Heading: "Settings", Forms: []*form{about, password}, Also: []link{{"Your page", "/user/" + me.Name}}}
	v.Unlisted = true
	if c.QueryParam("saved") == "1" {
		v.Intro = "It has been saved."
	}
	return v, about, password
}

func (p *Pages) settings(c echo.Context, me *news.User) error {
	v, _, _ := p.settingsPage(c, me)
	return p.show(c, http.StatusOK, "form", v)
}

func (p *Pages) saveSettings(c echo.Context, me *news.User) error {
	u := *me
	u.About, u.ShowDead = lines(asked(c, "about")), asked(c, "showdead") != ""
	if err := p.store.SetProfile(c.Request().Context(), u); err != nil {
		v, f, _ := p.settingsPage(c, me)
		f.typed(c)
		return p.again(c, v, f, err)
	}
	return c.Redirect(http.StatusSeeOther, "/settings?saved=1")
}

func (p *Pages) changePassword(c echo.Context, me *news.User) error {
	err := p.sessions.ChangePassword(c, asked(c, "old"), asked(c, "password"))
	if err == nil {
		return c.Redirect(http.StatusSeeOther, "/settings?saved=1")
	}
	if errors.Is(err, store.ErrWrongSecret) {
		err = &news.Invalid{Wrongs: []news.Wrong{{Field: "old", Why: "is wrong"}}}
	}
	v, _, f := p.settingsPage(c, me)
	return p.again(c, v, f, err)
}
