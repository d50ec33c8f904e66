package caddymodule

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portner/portner/caddymodule/internal/front"
)

// waiting is a connection at the door: it has sent its request, and nobody has
// looked at it for at least so long.
func waiting(t *testing.T, atLeast time.Duration) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	for range 1_000_000_000 { // the kernel's clock goes on by itself
		if age, ok := standing(server.(*net.TCPConn)); !ok || age >= atLeast {
			break
		}
	}
	return client, server
}

func TestWhoStandsAtTheDoorForTooLongIsTurnedAway(t *testing.T) {
	d := &intake{done: time.Now().Add(time.Hour)} // all come in quick succession
	client, server := waiting(t, tooLong+10*time.Millisecond)
	d.floods.all.passed = choiceAtLeast // as many as are of use are inside
	d.floods.tick = time.Now().Add(time.Hour)
	client.SetDeadline(time.Now().Add(10 * time.Second))
	d.changed(server, http.StateNew)
	res, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || int64(len(body)) != res.ContentLength {
		t.Errorf("%d %v %q, %v", res.StatusCode, res.Header, body, err)
	}
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection goes on: %v", err)
	}
}

func TestWhoComesAtOnceIsLetIn(t *testing.T) {
	d := &intake{done: time.Now().Add(time.Hour)}
	_, server := waiting(t, 0)
	d.changed(server, http.StateNew)
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// TestClearingGoesOnUntilTheNextAreFresh: or they would be too late as well.
func TestClearingGoesOnUntilTheNextAreFresh(t *testing.T) {
	d := new(intake)
	for _, c := range []struct {
		age     time.Duration
		tls     bool
		refused bool
	}{
		{tooLong, false, false},
		{tooLong + 1, false, true},
		{tooLong / 2, false, true},
		{fresh + 1, false, true},
		{fresh, false, false},
		{tooLong / 2, false, false},
		{tooLongTLS, true, false},
		{tooLongTLS + 1, true, true},
		{freshTLS + 1, true, true},
		{freshTLS, true, false},
	} {
		if got := d.turnsAway(c.age, c.tls); got != c.refused {
			t.Errorf("%v, TLS %v: turned away %v", c.age, c.tls, got)
		}
	}
}

// TestClearingLeavesTheApplicationSomethingToDo: or it is idle while all who could
// have been served are sent home.
func TestClearingLeavesTheApplicationSomethingToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // all in one window
		d := new(intake)
		d.turnsAway(tooLong+1, false)
		let := func() (n int) {
			for range 1000 {
				if d.floods.letsIn(time.Now()) {
					n++
				}
			}
			return n
		}
		if n := let(); n != choiceAtLeast {
			t.Errorf("%d were let in before anybody was served, want %d", n, choiceAtLeast)
		}
		r := httptest.NewRequest("GET", "/", nil)
		for range 5 {
			d.floods.heard(r, front.Exchange{Verdict: "ok"})
			d.floods.heard(r, front.Exchange{Verdict: "left"})
			d.floods.heard(r, front.Exchange{Verdict: "queue-full"})
		}
		if n := let(); n != choice*5 {
			t.Errorf("%d more were let in when five were served, want %d", n, choice*5)
		}
	})
}

// TestDoorRestsWhilePeopleStandAtIt: those who are served need the processor too.
func TestDoorRestsWhilePeopleStandAtIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, began := new(intake), time.Now()
		for range 10 * restAfter {
			d.rest()
		}
		if took := time.Since(began); took != 10*resting {
			t.Errorf("it rested for %v, want %v", took, 10*resting)
		}
	})
}

// rowOf is how many the kernel keeps for a listener at the most (tcp_info of a
// listening socket).
func rowOf(t *testing.T, l net.Listener) (most int) {
	t.Helper()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		most = int(info.Sacked)
	})
	return most
}

func TestRowAtTheDoorIsShortWhilePeopleStandThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		usual := rowOf(t, l)
		if usual <= shortest {
			t.Fatalf("the machine allows %d (net.core.somaxconn): a row cannot be shortened here", usual)
		}
		var b backlog
		b.late(l.Addr(), fresh, time.Now())
		if most := rowOf(t, l); most != shortest {
			t.Errorf("the row is %d long, want %d", most, shortest)
		}
		time.Sleep(shortFor - 1)
		b.late(l.Addr(), fresh, time.Now())
		time.Sleep(shortFor - 1)
		synctest.Wait()
		if most := rowOf(t, l); most != shortest {
			t.Errorf("the row is %d long while somebody has just stood there, want %d", most, shortest)
		}
		time.Sleep(1 * time.Nanosecond)
		synctest.Wait()
		if most := rowOf(t, l); most != usual {
			t.Errorf("the row is %d long when nobody stands there any more, want %d", most, usual)
		}
	})
}

// TestRowIsAsLongAsItIsQuick: a fast machine takes in more in the same time.
func TestRowIsAsLongAsItIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // for its timer, which must not fire
		var b backlog
		now := time.Now()
		take := func(n int) { // in a tenth of a second
			for range n {
				now = now.Add(100 * time.Millisecond / time.Duration(n))
				b.taken(now)
			}
		}
		for _, step := range []struct {
			n, want int
			changed bool
			later   time.Duration
		}{
			{1000, 500, true, 0},
			{2500, 500, false, 0},                    // too soon to say
			{1500, 500, false, cutEvery},             // much the same
			{2500, 1250, true, cutEvery},             //
			{1, shortest, true, cutEvery},            //
			{1, shortest, false, cutEvery},           //
			{1, shortest, true, deferEvery},          // there may be new sockets
			{100_000, 50_000, true, 2 * time.Minute}, //
		} {
			now = now.Add(step.later)
			take(step.n)
			take(step.n)
			if most, changed := b.cut(80, fresh, now); most < step.want*95/100 || most > step.want*105/100 || changed != step.changed {
				t.Errorf("%+v: %d, changed: %v", step, most, changed)
			}
		}
	})
}

// TestClearingEndsWithTheRush: what was too much once says nothing of the next time.
func TestClearingEndsWithTheRush(t *testing.T) {
	d, now := new(intake), time.Now()
	d.turnsAway(tooLong+1, false)
	for _, c := range []struct {
		since   time.Duration
		refused bool
	}{{quickly, true}, {quickly + 1, false}} {
		d.done = now.Add(-c.since)
		d.pace(now)
		if got := d.turnsAway(tooLong/2, false); got != c.refused {
			t.Errorf("%v after another: turned away %v", c.since, got)
		}
	}
}

func TestTurningAwayOverTLSHangsUp(t *testing.T) {
	client, server := waiting(t, 0)
	c := tls.Server(server, &tls.Config{})
	plain, overTLS := inner(c)
	if plain == nil || !overTLS {
		t.Fatal(plain, overTLS)
	}
	turnAway(c, plain, overTLS)
	if n, err := client.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestBellRingsAgainAndAgain(t *testing.T) {
	var b bell
	for range 100 {
		b.ring()
	}
}

func TestNetworkIsLookedAtBetweenConnectionsInQuickSuccession(t *testing.T) {
	for _, c := range []struct {
		since time.Duration
		looks int
		rush  bool
	}{{quickly + 1, 0, false}, {quickly, 10, true}, {0, 10, true}} {
		d, now := new(intake), time.Now()
		looks := 0
		for range 10 * rowLength {
			d.done = now.Add(-c.since)
			p := d.pace(now)
			if p.look {
				looks++
			}
			if p.rush != c.rush || p.gather {
				t.Errorf("%v after another: %+v", c.since, p)
			}
		}
		if looks != c.looks {
			t.Errorf("%v after one another: %d looks, want %d", c.since, looks, c.looks)
		}
	}
}

// TestFloodGathersWhereNobodyElseIsAtTheDoor: not where some are, and not without
// one.
func TestFloodGathersWhereNobodyElseIsAtTheDoor(t *testing.T) {
	for _, c := range []struct {
		since         time.Duration
		flood, gather bool
	}{{caughtUp + 1, true, true}, {caughtUp, true, false}, {quickly + 1, true, false}, {caughtUp + 1, false, false}} {
		d, now := new(intake), time.Now()
		if c.flood {
			d.floods.count(netip.MustParseAddr("192.0.2.1"), true, now)
		}
		d.done = now.Add(-c.since)
		if p := d.pace(now); p.gather != c.gather {
			t.Errorf("%+v: %+v", c, p)
		}
	}
}

// TestThoseWhoGatherComeWhenTheApplicationIsBusy: as soon as it has got a request, and
// after a while all the same; not while it has nothing else to do, nor where too many
// would gather, or others would.
func TestThoseWhoGatherComeWhenTheApplicationIsBusy(t *testing.T) {
	const soon = 3 * time.Millisecond
	for _, c := range []struct {
		name      string
		perSecond float64
		crowded   bool
		strangers int // of a hundred
		sends     bool
		takes     time.Duration
	}{
		{"sent", 1000, true, 6, true, soon},
		{"nothing sent", 1000, true, 0, false, 8 * time.Millisecond},
		{"nothing sent, few come", 100, true, 0, false, gatherMost},
		{"it is idle soon", 1000, false, 0, false, gathering},
		{"too many come", 2001, true, 0, false, gathering},
		{"others come", 1000, true, 7, false, gathering},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &intake{sent: make(chan struct{})}
				d.backlog.speed.perSecond = c.perSecond
				d.floods.tick, d.floods.came = time.Now(), arrivals{all: 100, strangers: c.strangers}
				d.sends(c.crowded)
				begun := time.Now()
				if c.sends {
					time.AfterFunc(soon, func() { d.sends(true) })
				}
				d.gather()
				if took := time.Since(begun); took != c.takes {
					t.Errorf("%v, want %v", took, c.takes)
				}
			})
		})
	}
}

func TestKernelKeepsTheSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	deferAccept(l.Addr().(*net.TCPAddr).Port)
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if n, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT); err != nil || n == 0 {
			t.Errorf("%d, %v", n, err)
		}
	})
}

// TestStrangersAreSeenInAFlood: for two windows.
func TestStrangersAreSeenInAFlood(t *testing.T) {
	var f floods
	flooding, polite := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	now := time.Now()
	refusing := func(n int) {
		for range n {
			f.count(flooding, true, now)
			f.turnsAway(flooding, now)
		}
	}
	expect := func(when string, alone bool) {
		t.Helper()
		if got := f.alone(now); got != alone {
			t.Errorf("%s: alone: %v", when, got)
		}
	}
	expect("nobody comes", false)
	refusing(100)
	expect("a flood", true)
	for range 10 {
		f.turnsAway(polite, now)
	}
	expect("others come", false)
	for _, alone := range []bool{false, true} {
		now = now.Add(floodWindow)
		refusing(50)
		expect("no more", alone)
	}
	now = now.Add(3 * floodWindow)
	expect("nobody comes any more", false)
}

// TestFloodIsLetInAsFarAsItIsOfUse: programs of an address that is refused by the
// dozen, as long as they are.
func TestFloodIsLetInAsFarAsItIsOfUse(t *testing.T) {
	var f floods
	flooding, polite := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	now := time.Now()
	for range 100 {
		f.count(flooding, true, now)
	}
	for range 5 {
		f.count(flooding, false, now)
		f.count(polite, false, now)
		f.count(polite, true, now)
	}
	now = now.Add(floodWindow)
	let := 0
	for range 1000 {
		if !f.turnsAway(flooding, now) {
			let++
		}
		if f.turnsAway(polite, now) {
			t.Fatal("the polite one is turned away")
		}
	}
	if let != choice*5+choiceAtLeast {
		t.Errorf("%d were let in, want %d", let, choice*5+choiceAtLeast)
	}
	if now = now.Add(3 * floodWindow); f.turnsAway(flooding, now) || f.known.Load() != 0 {
		t.Error("it is not forgotten")
	}
}

// TestFloodIsSeenAtOnce: a machine that gets through few of them must see it too.
func TestFloodIsSeenAtOnce(t *testing.T) {
	var f floods
	addr, now := netip.MustParseAddr("192.0.2.1"), time.Now()
	for n := range floodRefused {
		if f.turnsAway(addr, now) {
			t.Fatalf("turned away after %d refusals", n)
		}
		f.count(addr, true, now)
	}
	for range choiceAtLeast {
		if f.turnsAway(addr, now) {
			t.Error("none is let in")
		}
	}
	if !f.turnsAway(addr, now) {
		t.Error("it is let in")
	}
}

func TestFloodOfAddressesIsBounded(t *testing.T) {
	var f floods
	for i := range 2 * maxFloods {
		f.count(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), true, time.Now())
	}
	if len(f.of) > maxFloods {
		t.Errorf("%d addresses are known", len(f.of))
	}
}

func TestOnlyProgramsThatReadAreToldSoShortly(t *testing.T) {
	for head, want := range map[string]bool{
		"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n":                          true,
		"HEAD / HTTP/1.1\r\n\r\n":                                        true,
		"GET / HTTP/1.1\r\nAccept: text/html,*/*\r\n\r\n":                false,
		"GET / HTTP/1.1\r\nCookie: a=1; portner_place=x\r\n\r\n":         false,
		"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n":                   false,
		"GET / HTTP/1.1\r\nAccept: */*\r\n":                              false,
		"":                                                               false,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                               false,
		"GET / HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nAccept: text/html\r\n": true,
	} {
		if got := isNoPerson([]byte(head)); got != want {
			t.Errorf("%q: %v", head, got)
		}
	}
}
