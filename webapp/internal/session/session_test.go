package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap/zaptest"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/store"
)

const secret = "correct horse battery"

// site is an application with one page, /me, and the forms of this package.
type site struct {
	*echo.Echo
	store    *store.Store
	sessions *Sessions
}

// with runs test on a new site. Inside, time moves only when test sleeps.
func with(t *testing.T, test func(t *testing.T, s site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "news.db"), zaptest.NewLogger(t))
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		ses := New(st)
		e := echo.New()
		e.HTTPErrorHandler = func(err error, c echo.Context) {
			status := http.StatusInternalServerError
			for known, number := range map[error]int{
				ErrLogin: 401, store.ErrWrongSecret: 403, ErrForged: 400, store.ErrTooFast: 429, store.ErrNameTaken: 409,
				store.ErrBusy: 503,
			} {
				if errors.Is(err, known) {
					status = number
				}
			}
			c.String(status, err.Error())
		}
		me := func(c echo.Context) error {
			if u := User(c); u != nil {
				return c.String(200, u.Name+" "+CSRF(c))
			}
			return c.String(200, "visitor")
		}
		then := func(err error, c echo.Context) error {
			if err != nil {
				return err
			}
			return me(c)
		}
		pages := e.Group("", ses.ForPages)
		pages.GET("/me", me)
		pages.POST("/change", me)
		pages.POST("/login", func(c echo.Context) error {
			_, err := ses.Login(c, c.FormValue("name"), c.FormValue("password"))
			return then(err, c)
		})
		pages.POST("/register", func(c echo.Context) error {
			_, err := ses.Register(c, c.FormValue("name"), c.FormValue("password"))
			return then(err, c)
		})
		pages.POST("/password", func(c echo.Context) error {
			return then(ses.ChangePassword(c, c.FormValue("old"), c.FormValue("password")), c)
		})
		pages.POST("/logout", func(c echo.Context) error { return then(ses.Logout(c), c) })
		api := e.Group("/api", ses.ForPrograms)
		api.GET("/me", me)
		api.POST("/token", func(c echo.Context) error {
			token, _, err := ses.Token(c, c.FormValue("name"), c.FormValue("password"))
			if err != nil {
				return err
			}
			return c.String(200, token)
		})
		test(t, site{e, st, ses})
	})
}

type answer struct {
	status int
	body   string
	cookie *http.Cookie
	header http.Header
}

// do sends a form; header is pairs of name and value.
func (s site) do(t *testing.T, method, path, form string, header ...string) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "https://news.example"+path, strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	a := answer{status: rec.Code, body: rec.Body.String(), header: rec.Header()}
	for _, c := range rec.Result().Cookies() {
		a.cookie = c
	}
	return a
}

func (s site) join(t *testing.T, name string) answer {
	t.Helper()
	a := s.do(t, "POST", "/register", url.Values{"name": {name}, "password": {secret}}.Encode())
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	return a
}

func (a answer) pair() string { return a.cookie.Name + "=" + a.cookie.Value }
func (a answer) token() string {
	_, token, _ := strings.Cut(a.body, " ")
	return token
}

func login(name, password string) string {
	return url.Values{"name": {name}, "password": {password}}.Encode()
}

func TestVisitorGetsNoCookieAndPagesMayBeCached(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		a := s.do(t, "GET", "/me", "")
		if a.body != "visitor" || a.header.Get("Set-Cookie") != "" || a.header.Get("Cache-Control") != "" || a.header.Get("Vary") != "Cookie" {
			t.Errorf("%q %v", a.body, a.header)
		}
		if a := s.do(t, "POST", "/login", login("nobody", secret)); a.header.Get("Set-Cookie") != "" {
			t.Error("a failed login sets a cookie")
		}
		if a := s.do(t, "GET", "/me", "", "Cookie", cookieName+"=made-up"); a.body != "visitor" || a.header.Get("Set-Cookie") != "" {
			t.Errorf("a made-up cookie: %q %v", a.body, a.header)
		}
	})
}

func TestCookieIsForThisSiteAndNoScript(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		a := s.join(t, "ann")
		if c := a.cookie; !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || !strings.HasPrefix(c.Name, "__Host-") || c.MaxAge <= 0 {
			t.Errorf("%+v", c)
		}
		me := s.do(t, "GET", "/me", "", "Cookie", a.pair())
		if me.body != "ann "+a.token() || me.header.Get("Cache-Control") != "private, no-store" {
			t.Errorf("%q %v", me.body, me.header)
		}
	})
}

// Session fixation: what a browser held before the login is worth nothing
// after it, planted or not.
func TestKeyIsNewAtEveryLogin(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		first := s.join(t, "ann")
		planted := s.do(t, "POST", "/login", login("ann", secret), "Cookie", cookieName+"=planted")
		if planted.status != 200 || planted.cookie.Value == "planted" {
			t.Fatalf("%d, cookie %v", planted.status, planted.cookie)
		}
		if a := s.do(t, "GET", "/me", "", "Cookie", cookieName+"=planted"); a.body != "visitor" {
			t.Errorf("the planted key opens: %s", a.body)
		}
		second := s.do(t, "POST", "/login", "csrf="+first.token()+"&"+login("ann", secret), "Cookie", first.pair())
		if second.status != 200 || second.cookie.Value == first.cookie.Value {
			t.Fatalf("%d %s", second.status, second.body)
		}
		if a := s.do(t, "GET", "/me", "", "Cookie", first.pair()); a.body != "visitor" {
			t.Errorf("the key from before the login opens: %s", a.body)
		}
	})
}

func TestLogoutEndsTheSession(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		ann := s.join(t, "ann")
		a := s.do(t, "POST", "/logout", "csrf="+ann.token(), "Cookie", ann.pair())
		if a.body != "visitor" || a.cookie.MaxAge >= 0 {
			t.Errorf("%q, cookie %+v", a.body, a.cookie)
		}
		if a := s.do(t, "GET", "/me", "", "Cookie", ann.pair()); a.body != "visitor" {
			t.Errorf("the key still opens: %s", a.body)
		}
	})
}

func TestLoginLastsThirtyDays(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		ann := s.join(t, "ann")
		time.Sleep(Lifetime - time.Minute)
		if a := s.do(t, "GET", "/me", "", "Cookie", ann.pair()); a.body == "visitor" {
			t.Error("it ended early")
		}
		time.Sleep(time.Minute)
		if a := s.do(t, "GET", "/me", "", "Cookie", ann.pair()); a.body != "visitor" {
			t.Error("it goes on")
		}
	})
}

func TestFormOfAnotherSiteIsRefused(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		ann, bob := s.join(t, "ann"), s.join(t, "bob")
		for name, row := range map[string]struct {
			form   string
			header []string
			status int
		}{
			"own form":                      {"csrf=" + ann.token(), nil, 200},
			"own form, by header":           {"", []string{"X-CSRF-Token", ann.token()}, 200},
			"own form, own origin":          {"csrf=" + ann.token(), []string{"Origin", "https://news.example", "Sec-Fetch-Site", "same-origin"}, 200},
			"no token":                      {"", nil, 400},
			"empty token":                   {"csrf=", nil, 400},
			"token of another":              {"csrf=" + bob.token(), nil, 400},
			"the cookie's value":            {"csrf=" + ann.cookie.Value, nil, 400},
			"another origin":                {"csrf=" + ann.token(), []string{"Origin", "https://evil.example"}, 400},
			"another origin by fetch":       {"csrf=" + ann.token(), []string{"Sec-Fetch-Site", "cross-site"}, 400},
			"another host of the same site": {"csrf=" + ann.token(), []string{"Sec-Fetch-Site", "same-site"}, 400},
		} {
			header := append([]string{"Cookie", ann.pair()}, row.header...)
			if a := s.do(t, "POST", "/change", row.form, header...); a.status != row.status {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
		if a := s.do(t, "POST", "/change?csrf="+ann.token(), "", "Cookie", ann.pair()); a.status != 200 {
			t.Errorf("in the address: %d", a.status) // worth as much: whoever knows it is us
		}
		// Logging somebody in to the attacker's account needs no token to forge.
		if a := s.do(t, "POST", "/login", login("bob", secret), "Origin", "https://evil.example"); a.status != 400 || a.cookie != nil {
			t.Errorf("a login from another site: %d", a.status)
		}
	})
}

func TestGuessingIsSlowedDown(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		s.join(t, "ann")
		from := func(ip string) []string { return []string{"X-Real-Ip", ip} }
		for i := range maxLogins {
			if a := s.do(t, "POST", "/login", login("ann", "guess"), from("192.0.2.1")...); a.status != 403 {
				t.Fatalf("guess %d: %d %s", i, a.status, a.body)
			}
		}
		for what, password := range map[string]string{"wrong": "guess", "right": secret} {
			if a := s.do(t, "POST", "/login", login("ANN", password), from("192.0.2.1")...); a.status != 429 {
				t.Errorf("one too many, %s: %d", what, a.status)
			}
		}
		if a := s.do(t, "POST", "/login", login("ann", secret), from("192.0.2.2")...); a.status != 200 {
			t.Errorf("she herself, from elsewhere: %d", a.status)
		}
		time.Sleep(loginWindow)
		if a := s.do(t, "POST", "/login", login("ann", secret), from("192.0.2.1")...); a.status != 200 {
			t.Errorf("after the window: %d", a.status)
		}
		for range maxLoginsFrom - 2 { // passwords are slow to check, also under the race detector
			if err := s.sessions.logins.try(maxLoginsFrom, "2001:db8::/64"); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 3 { // one guess for each of many names, from one network
			a := s.do(t, "POST", "/login", login(fmt.Sprint("user", i), "guess"), from(fmt.Sprintf("2001:db8::%d", i))...)
			if want := map[bool]int{true: 403, false: 429}[i < 2]; a.status != want {
				t.Fatalf("name %d: %d", i, a.status)
			}
		}
	})
}

// Who is turned away because too many log in has not tried.
func TestLoginThatIsNotCheckedIsNoAttempt(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		answers := make(chan answer, 60)
		for i := range cap(answers) {
			go func() {
				answers <- s.do(t, "POST", "/login", login(fmt.Sprint("user", i), "guess"), "X-Real-Ip", fmt.Sprint("192.0.2.", i))
			}()
		}
		checked, busy := 0, 0
		for range cap(answers) {
			switch a := <-answers; a.status {
			case 403:
				checked++
			case 503:
				busy++
			default:
				t.Errorf("%d %s", a.status, a.body)
			}
		}
		tried := 0
		for _, had := range s.sessions.logins.seen {
			tried += had.n
		}
		if busy == 0 || tried != 2*checked { // by name and by address
			t.Errorf("%d checked and %d not, %d attempts counted", checked, busy, tried)
		}
	})
}

func TestOneAddressMakesFewAccounts(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		for range maxAccounts - 1 {
			if err := s.sessions.accounts.try(maxAccounts, "192.0.2.1"); err != nil { // httptest's address
				t.Fatal(err)
			}
		}
		s.join(t, "last")
		if a := s.do(t, "POST", "/register", login("onemore", secret)); a.status != 429 {
			t.Errorf("%d", a.status)
		}
		time.Sleep(accountWindow)
		s.join(t, "onemore")
	})
}

// Names that are taken cost no account, but nobody asks for all names there are.
func TestTakenNamesCostNoAccount(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		s.join(t, "ann")
		for i := range 2 * maxAccounts {
			if a := s.do(t, "POST", "/register", login("Ann", secret)); a.status != 409 {
				t.Fatalf("taken name %d: %d", i, a.status)
			}
		}
		s.join(t, "bob")
		for i := 2*maxAccounts + 2; i < maxNames; i++ {
			if a := s.do(t, "POST", "/register", login("bob", secret)); a.status != 409 {
				t.Fatalf("taken name %d: %d", i, a.status)
			}
		}
		if a := s.do(t, "POST", "/register", login("ann", secret)); a.status != 429 {
			t.Errorf("after %d names: %d", maxNames, a.status)
		}
		if a := s.do(t, "POST", "/register", login("carl", secret), "X-Real-Ip", "192.0.2.9"); a.status != 200 {
			t.Errorf("from elsewhere: %d", a.status)
		}
		time.Sleep(accountWindow)
		s.join(t, "dora")
	})
}

func TestMemoryOfTriesIsBounded(t *testing.T) {
	th := newThrottle(time.Hour)
	for i := range maxKeys + 10 {
		if err := th.try(5, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(th.seen) > maxKeys {
		t.Errorf("%d keys", len(th.seen))
	}
}

func TestPasswordChangeEndsEverythingElse(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		here := s.join(t, "ann")
		there := s.do(t, "POST", "/login", login("ann", secret))
		token := s.do(t, "POST", "/api/token", login("ann", secret)).body
		change := url.Values{"csrf": {here.token()}, "old": {"not it, surely"}, "password": {"a better password"}}
		if a := s.do(t, "POST", "/password", change.Encode(), "Cookie", here.pair()); a.status != 403 {
			t.Errorf("with a wrong old one: %d", a.status)
		}
		change.Set("old", secret)
		a := s.do(t, "POST", "/password", change.Encode(), "Cookie", here.pair())
		if a.status != 200 || a.cookie == nil || a.cookie.Value == here.cookie.Value {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if me := s.do(t, "GET", "/me", "", "Cookie", a.pair()); me.body == "visitor" {
			t.Error("logged out here")
		}
		for what, pair := range map[string]string{"this browser's old key": here.pair(), "another browser": there.pair()} {
			if me := s.do(t, "GET", "/me", "", "Cookie", pair); me.body != "visitor" {
				t.Errorf("%s still opens", what)
			}
		}
		if me := s.do(t, "GET", "/api/me", "", "Authorization", "Bearer "+token); me.status != 401 {
			t.Errorf("the token still opens: %s", me.body)
		}
		if a := s.do(t, "POST", "/login", login("ann", "a better password")); a.status != 200 {
			t.Errorf("the new password: %d", a.status)
		}
	})
}

func TestTokenIsForProgramsAndCookieForBrowsers(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		ann := s.join(t, "ann")
		token := s.do(t, "POST", "/api/token", login("ann", secret)).body
		for name, row := range map[string]struct {
			path   string
			header []string
			status int
			body   string
		}{
			"token at the API":  {"/api/me", []string{"Authorization", "Bearer " + token}, 200, "ann"},
			"cookie at the API": {"/api/me", []string{"Cookie", ann.pair()}, 200, "visitor"},
			"cookie as token":   {"/api/me", []string{"Authorization", "Bearer " + ann.cookie.Value}, 401, ""},
			"token as cookie":   {"/me", []string{"Cookie", cookieName + "=" + token}, 200, "visitor"},
			"made-up token":     {"/api/me", []string{"Authorization", "Bearer x"}, 401, ""},
			"the course's slip": {"/api/me", []string{"Authorization", "Basic b'c2ltdWxhdG9y'"}, 200, "visitor"},
		} {
			a := s.do(t, "GET", row.path, "", row.header...)
			if who, _, _ := strings.Cut(a.body, " "); a.status != row.status || row.body != "" && who != row.body {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
	})
}

// Enumeration by timing: a name that nobody has costs what a wrong password
// costs. The work is argon2id's, so its memory is looked at and not the clock:
// on a busy machine clocks lie.
func TestUnknownNameCostsWhatAWrongPasswordCosts(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		s.join(t, "ann")
		s.do(t, "POST", "/login", login("nobody", "warm")) // what is made once
		cost := func(name string) uint64 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := s.store.CheckPassword(t.Context(), name, "guess"); !errors.Is(err, store.ErrWrongSecret) {
				t.Errorf("%s: %v", name, err)
			}
			runtime.ReadMemStats(&after)
			return (after.TotalAlloc - before.TotalAlloc) >> 20
		}
		if err := s.store.Take(t.Context(), news.Post{ID: 1, Kind: news.Story, By: "pg", Secret: "Y89KIJ3frM", Title: "x"}); err != nil {
			t.Fatal(err)
		}
		if simulated := cost("pg"); simulated < 19 || simulated > 19+8 {
			t.Errorf("%d MiB of work for a user of the simulator", simulated)
		}
		if known, unknown := cost("ann"), cost("nobody"); known < 19 || unknown < 19 || unknown > known+4 {
			t.Errorf("%d MiB of work for a known name, %d for an unknown one", known, unknown)
		}
	})
}

func TestNextAddressStaysHere(t *testing.T) {
	for path, want := range map[string]string{
		"/item/1?p=2#x": "/item/1?p=2#x", "": "/", "/": "/", "//evil.example": "/", "/\\evil.example": "/", "\\\\evil": "/",
		"https://evil.example/": "/", "javascript:alert(1)": "/", "/a\nb": "/", "/\t/evil.example": "/", "item": "/",
	} {
		if got := Local(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}
