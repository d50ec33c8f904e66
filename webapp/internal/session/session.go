// Package session knows who is asking: a browser by its cookie, a program by
// its bearer token. It logs people in and out, slows down who guesses, and
// refuses forms that another site made a browser send.
//
// Always: a visitor gets no cookie and costs no query; reading changes
// nothing; a session's key is made at the login, so one that an attacker
// planted is worth nothing; a page for somebody who is logged in is never
// stored by a cache. Safe for concurrent use.
//
// A handler asks with User, Require and CSRF. Every form of somebody who is
// logged in carries <input type="hidden" name="csrf" value="{{CSRF}}">.
package session

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/store"
)

const (
	// cookieName begins with __Host-: browsers take such a cookie only when it
	// is Secure, has no Domain, and is for every path, so no other host can
	// plant one.
	cookieName = "__Host-session"
	// Lifetime is how long a login lasts. It is not prolonged by visits:
	// reading changes nothing.
	Lifetime = 30 * 24 * time.Hour
	// TokenLifetime is how long a program's token lasts.
	TokenLifetime = 365 * 24 * time.Hour

	formField  = "csrf"
	formHeader = "X-CSRF-Token"
)

var (
	// ErrLogin: this takes somebody who is logged in.
	ErrLogin = errors.New("not logged in")
	// ErrForged: the request was not sent by a form of this site.
	ErrForged = errors.New("the form was not sent by this site, or is too old")
)

// Sessions loads and changes sessions.
type Sessions struct {
	store    *store.Store
	logins   *throttle
	accounts *throttle
	origin   *http.CrossOriginProtection
}

// New returns sessions that are kept in st.
func New(st *store.Store) *Sessions {
	return &Sessions{store: st, logins: newThrottle(loginWindow), accounts: newThrottle(accountWindow), origin: http.NewCrossOriginProtection()}
}

// state is what a request carries; it is set by Load.
type state struct {
	key  string // what the client holds; "" for a visitor
	user *news.User
	kind store.SessionKind
}

const contextKey = "session"

func of(c echo.Context) state {
	s, _ := c.Get(contextKey).(state)
	return s
}

// User is who is asking; nil for a visitor. It is his own copy.
func User(c echo.Context) *news.User {
	u := of(c).user
	if u == nil {
		return nil
	}
	mine := *u
	return &mine
}

// Require is who is asking, or ErrLogin for a visitor.
func Require(c echo.Context) (*news.User, error) {
	if u := User(c); u != nil {
		return u, nil
	}
	return nil, ErrLogin
}

// CSRF is the value of the hidden field "csrf" in the forms of this session;
// "" for a visitor, whose forms (login, registration) are protected by their
// origin alone.
func CSRF(c echo.Context) string {
	s := of(c)
	if s.key == "" || s.kind != store.Web {
		return ""
	}
	return csrf(s.key)
}

// csrf is bound to the session and says nothing about its key.
func csrf(key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte("csrf"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// ForPages is the middleware of pages: it loads the session of the cookie, and
// refuses a change (any method but GET, HEAD and OPTIONS) that comes from
// another site or, of somebody who is logged in, without the token of his
// forms. A cookie that opens nothing is a visitor's.
func (s *Sessions) ForPages(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, h := c.Request(), c.Response().Header()
		h.Add("Vary", "Cookie")
		if cookie, err := r.Cookie(cookieName); err == nil {
			if err := s.load(c, cookie.Value, store.Web); err != nil && !errors.Is(err, store.ErrNoSession) {
				return err
			}
		}
		if User(c) != nil {
			h.Set("Cache-Control", "private, no-store")
		}
		if safe(r.Method) {
			return next(c)
		}
		h.Set("Cache-Control", "no-store")
		if err := s.origin.Check(r); err != nil {
			return errors.Join(ErrForged, err)
		}
		if want := CSRF(c); want != "" {
			got := r.Header.Get(formHeader)
			if got == "" {
				got = c.FormValue(formField)
			}
			if !hmac.Equal([]byte(got), []byte(want)) {
				return ErrForged
			}
		}
		return next(c)
	}
}

// ForPrograms is the middleware of the API: it loads the session of
// "Authorization: Bearer <token>" and looks at no cookie, so a browser cannot
// be made to use it in somebody's name. A token that opens nothing is
// ErrLogin.
func (s *Sessions) ForPrograms(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Response().Header().Add("Vary", "Authorization")
		scheme, token, _ := strings.Cut(c.Request().Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "bearer") {
			return next(c)
		}
		c.Response().Header().Set("Cache-Control", "private, no-store")
		err := s.load(c, strings.TrimSpace(token), store.API)
		if errors.Is(err, store.ErrNoSession) {
			return ErrLogin
		}
		if err != nil {
			return err
		}
		return next(c)
	}
}

func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// maxKey is longer than any key of ours.
const maxKey = 128

func (s *Sessions) load(c echo.Context, key string, kind store.SessionKind) error {
	if key == "" || len(key) > maxKey {
		return store.ErrNoSession
	}
	found, err := s.store.Session(c.Request().Context(), key)
	if err != nil {
		return err
	}
	if found.Kind != kind {
		return store.ErrNoSession
	}
	c.Set(contextKey, state{key: key, user: &found.User, kind: kind})
	return nil
}

// Login checks name and password, ends the session the browser had, and
// starts a new one. store.ErrWrongSecret, a *store.TooFast for whoever has
// guessed too often, or store.ErrBusy when too many log in at once.
func (s *Sessions) Login(c echo.Context, name, password string) (*news.User, error) {
	who, err := s.check(c, name, password)
	if err != nil {
		return nil, err
	}
	return s.logIn(c, who)
}

// Register creates an account and logs it in. An *news.Invalid names "name"
// and "password"; store.ErrNameTaken; *store.TooFast.
func (s *Sessions) Register(c echo.Context, name, password string) (*news.User, error) {
	if err := news.CheckAccount(name, password); err != nil { // costs no turn
		return nil, err
	}
	from := address(c)
	if err := s.accounts.try(maxNames, "names "+from); err != nil {
		return nil, err
	}
	if err := s.accounts.try(maxAccounts, from); err != nil {
		return nil, err
	}
	u, err := s.store.Register(c.Request().Context(), name, password)
	if err != nil {
		s.accounts.back(from) // there is no account
		return nil, err
	}
	key, err := s.store.StartSession(c.Request().Context(), u.Name, store.Web, Lifetime)
	if err != nil {
		return nil, err
	}
	return s.begin(c, u, key)
}

// Logout ends the session and takes the cookie away.
func (s *Sessions) Logout(c echo.Context) error {
	if key := of(c).key; key != "" {
		if err := s.store.EndSession(c.Request().Context(), key); err != nil {
			return err
		}
	}
	c.SetCookie(cookie("", -1))
	c.Set(contextKey, state{})
	return nil
}

// ChangePassword checks the old password, sets the new one, ends all sessions
// and tokens of the user, and starts a new session here.
func (s *Sessions) ChangePassword(c echo.Context, old, password string) error {
	me, err := Require(c)
	if err != nil {
		return err
	}
	if err := news.CheckPassword("password", me.Name, password); err != nil {
		return err
	}
	who, err := s.check(c, me.Name, old)
	if err != nil {
		return err
	}
	if who, err = s.store.SetPassword(c.Request().Context(), who, password, ""); err != nil {
		return err
	}
	_, err = s.logIn(c, who)
	return err
}

// Token gives a program a token for name and password; it says until when.
func (s *Sessions) Token(c echo.Context, name, password string) (token string, until time.Time, err error) {
	who, err := s.check(c, name, password)
	if err != nil {
		return "", time.Time{}, err
	}
	until = time.Now().Add(TokenLifetime)
	token, err = s.store.LogIn(c.Request().Context(), who, store.API, TokenLifetime)
	return token, until, err
}

// EndToken ends the token that the request came with.
func (s *Sessions) EndToken(c echo.Context) error {
	return s.store.EndSession(c.Request().Context(), of(c).key)
}

// checkTimeout is how long somebody waits to hear whether his password is right.
// Few wait before him (store.ErrBusy); this is for a machine that stands still.
const checkTimeout = 10 * time.Second

// check counts the attempt before it is made, so that many at once are many.
func (s *Sessions) check(c echo.Context, name, password string) (store.Login, error) {
	from := address(c)
	pair := from + " " + strings.ToLower(clip(name))
	if err := s.logins.try(maxLogins, pair); err != nil {
		return store.Login{}, err
	}
	if err := s.logins.try(maxLoginsFrom, from); err != nil {
		return store.Login{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), checkTimeout) // whoever leaves before the answer has still asked
	defer cancel()
	who, err := s.store.CheckPassword(ctx, name, password)
	switch {
	case err == nil:
		s.logins.forget(pair)
	case errors.Is(err, store.ErrBusy): // nothing was tried
		s.logins.back(pair)
		s.logins.back(from)
	}
	return who, err
}

func (s *Sessions) logIn(c echo.Context, who store.Login) (*news.User, error) {
	key, err := s.store.LogIn(c.Request().Context(), who, store.Web, Lifetime)
	if err != nil {
		return nil, err
	}
	return s.begin(c, who.User, key)
}

// begin gives the key of a new session to the browser, in place of the one that it
// has.
func (s *Sessions) begin(c echo.Context, u news.User, key string) (*news.User, error) {
	ctx := c.Request().Context()
	if old := of(c); old.key != "" && old.kind == store.Web {
		if err := s.store.EndSession(ctx, old.key); err != nil {
			return nil, err
		}
	}
	c.SetCookie(cookie(key, int(Lifetime/time.Second)))
	c.Set(contextKey, state{key: key, user: &u, kind: store.Web})
	return &u, nil
}

func cookie(key string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: key, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode,
	}
}

// Local is where to go after a login: path, when it is an address within this
// site, else "/". "//host", "/\host" and control characters lead elsewhere in
// some browsers.
func Local(path string) string {
	if len(path) > 2000 || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsRune(path, '\\') {
		return "/"
	}
	for _, r := range path {
		if r < ' ' || r == 0x7f {
			return "/"
		}
	}
	return path
}
