package journal

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// dead makes a dead letter of a write.
func dead(t *testing.T, j *Journal, w Write) ID {
	t.Helper()
	l := mustAppend(t, j, w)
	if !l.Begin() || !l.Accept() || l.End(Outcome{Kind: Rejected, Answer: &Answer{Status: 422, Header: map[string][]string{"Set-Cookie": {"s=1"}}}}) {
		t.Fatal("not dead")
	}
	settleDown(j)
	return l.Entry().ID
}

func TestOperatorSeesDeadLettersWithoutSecrets(t *testing.T) {
	j := inMemory(t, Options{})
	w := write("lane", "x")
	w.Header["Authorization"], w.Header["X-Api-Key"] = []string{"Basic abc"}, []string{"k"}
	id := dead(t, j, w)
	e, status, err := j.Show(id)
	if err != nil || status.State != Dead || string(e.Body) != "x" {
		t.Fatalf("%+v, %+v, %v", e, status, err)
	}
	for _, name := range []string{"Authorization", "Cookie", "X-Api-Key"} {
		if got := e.Header[name]; len(got) != 1 || got[0] != Mask {
			t.Errorf("%s is shown: %v", name, got)
		}
	}
	if e.Header["Content-Type"][0] != "text/plain" || status.Answer.Header["Set-Cookie"][0] != Mask {
		t.Errorf("%v, %v", e.Header, status.Answer.Header)
	}
	if _, _, err := j.Show(newID()); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v, want ErrNotFound", err)
	}
}

func TestRetryAndDropAreTheOnlyWaysOut(t *testing.T) {
	j := inMemory(t, Options{})
	again, gone := dead(t, j, write("lane", "again")), dead(t, j, write("lane", "gone"))
	live := mustAppend(t, j, write("lane", "live"))
	ctx := context.Background()
	if err := j.Drop(ctx, live.Entry().ID); !errors.Is(err, ErrBusy) {
		t.Fatalf("%v, want ErrBusy: its request has it", err)
	}
	if err := j.Retry(ctx, live.Entry().ID); !errors.Is(err, ErrNotDead) {
		t.Fatalf("%v, want ErrNotDead", err)
	}
	if err := j.Drop(ctx, gone); err != nil {
		t.Fatal(err)
	}
	if err := j.Retry(ctx, again); err != nil {
		t.Fatal(err)
	}
	if live.Begin() {
		t.Fatal("sent before the retried one, which is ahead")
	}
	live.Accept()
	var app application
	j.Deliver(app.send)
	until(t, j, "both delivered", func() bool { return j.Stats().Depth == 0 })
	if got := app.taken(); !reflect.DeepEqual(got, []string{"again", "live"}) {
		t.Fatalf("%v", got)
	}
	for _, id := range []ID{again, gone} {
		if err := j.Drop(ctx, id); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v, want ErrNotFound", err)
		}
	}
	if s := j.Stats(); s.DeadLetters != 0 || s.Bytes != 0 {
		t.Fatalf("%+v", s)
	}
	checkSums(t, j)
}

func TestExportImportsTheSame(t *testing.T) {
	from := inMemory(t, Options{})
	id := dead(t, from, write("lane", "dead"))
	w := write("lane", "with a key \x00\xff")
	w.Key = "mine"
	mustAppend(t, from, w).Accept()
	for range 600 {
		mustAppend(t, from, write("other", "x")).Accept()
	}
	var text bytes.Buffer
	n, err := from.Export(context.Background(), &text, Undelivered, Dead)
	if err != nil || n != 602 || strings.Count(text.String(), "\n") != 602 {
		t.Fatalf("%d, %v", n, err)
	}
	to := inMemory(t, Options{})
	for range 2 { // the second time nothing is new
		if n, err := to.Import(context.Background(), bytes.NewReader(text.Bytes())); err != nil || n != 602 {
			t.Fatalf("%d, %v", n, err)
		}
		if s := to.Stats(); s.Depth != 601 || s.DeadLetters != 1 || s.Bytes != from.Stats().Bytes {
			t.Fatalf("%+v, was %+v", s, from.Stats())
		}
	}
	checkSums(t, to)
	a, sa, _ := from.Show(id)
	b, sb, err := to.Show(id)
	a.Seq, b.Seq, a.size, b.size, sa.Seq, sb.Seq = 0, 0, 0, 0, 0, 0
	if err != nil || !reflect.DeepEqual(a, b) || !reflect.DeepEqual(sa, sb) {
		t.Fatalf("%+v %+v\n%+v %+v\n%v", a, sa, b, sb, err)
	}
	var repeat *Repeat
	if _, err := to.Append(context.Background(), w); !errors.As(err, &repeat) || !repeat.Accepted {
		t.Fatalf("%v, want a repeat of what was accepted elsewhere", err)
	}
	if _, err := to.Import(context.Background(), strings.NewReader(`{"id":"no"}`)); err == nil {
		t.Fatal("imported nonsense")
	}
	var app application
	to.Deliver(app.send)
	until(t, to, "all delivered", func() bool { return to.Stats().Depth == 0 })
}

// An entry that has no room keeps those out that come after it: repeated, the import
// would put it behind them.
func TestImportStopsAtTheReserve(t *testing.T) {
	from := inMemory(t, Options{})
	bodies := []string{"1", "2", strings.Repeat("3", 2<<20), "4", "5"}
	for _, body := range bodies {
		mustAppend(t, from, write("lane", body)).Accept()
	}
	var text bytes.Buffer
	if _, err := from.Export(t.Context(), &text, Undelivered); err != nil {
		t.Fatal(err)
	}
	mem := vfs.NewMem()
	disk := func(free uint64) { mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 40}) }
	disk(defaultReserve + 1<<20)
	to := inMemory(t, Options{fs: mem})
	n, err := to.Import(t.Context(), bytes.NewReader(text.Bytes()))
	if n != 2 || !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "entry 3: ") || strings.Count(err.Error(), "reserve") != 1 {
		t.Fatalf("%d, %v; want ErrFull at the third", n, err)
	}
	if s := to.Stats(); s.Depth != 2 {
		t.Fatalf("%+v", s)
	}
	disk(defaultReserve + 1<<30)
	if n, err := to.Import(t.Context(), bytes.NewReader(text.Bytes())); n != 5 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	var app application
	to.Deliver(app.send)
	until(t, to, "all delivered", func() bool { return to.Stats().Depth == 0 })
	if got := app.taken(); !slices.Equal(got, bodies) {
		t.Fatalf("%.20q", got)
	}
}

func TestSealedJournalHasNoPlainText(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	secret := bytes.Repeat([]byte{7}, 32)
	j := openIn(t, dir, Options{Secret: secret})
	w := write("lane", "SECRETBODY SECRETBODY")
	w.Header["Authorization"] = []string{"SECRETHEADER"}
	w.Key, w.Client = "SECRETKEY", "SECRETCLIENT"
	l := mustAppend(t, j, w)
	l.Begin()
	l.End(Outcome{Kind: Taken, Answer: &Answer{Status: 200, Body: []byte("SECRETANSWER")}})
	id := dead(t, j, write("lane", "SECRETBODY"))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for name := range listing(t, dir) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || bytes.Contains(text, []byte("SECRET")) {
			t.Errorf("%s: %v: holds plain text", name, err)
		}
	}
	for _, wrong := range [][]byte{nil, bytes.Repeat([]byte{8}, 32)} {
		if _, err := Open(dir, Options{Secret: wrong}); !errors.Is(err, ErrSecret) {
			t.Errorf("%v, want ErrSecret", err)
		}
	}
	j = openIn(t, dir, Options{Secret: secret})
	if e, _, err := j.Show(id); err != nil || string(e.Body) != "SECRETBODY" {
		t.Fatalf("%+v, %v", e, err)
	}
}

func TestPlainJournalMayBeSealedFromNowOn(t *testing.T) {
	mem := vfs.NewMem()
	j := inMemory(t, Options{fs: mem})
	mustAppend(t, j, write("lane", "plain")).Accept()
	_ = j.Close()
	j = inMemory(t, Options{fs: mem, Secret: make([]byte, 32)})
	mustAppend(t, j, write("lane", "sealed")).Accept()
	_ = j.Close()
	if _, err := Open("journal", Options{fs: mem}); !errors.Is(err, ErrSecret) {
		t.Fatalf("%v, want ErrSecret", err)
	}
	j = inMemory(t, Options{fs: mem, Secret: make([]byte, 32)})
	var app application
	j.Deliver(app.send)
	until(t, j, "both delivered", func() bool { return len(app.taken()) == 2 })
}

func TestKeyFileIsForItsOwnerAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	put := func(text string, mode os.FileMode) {
		_ = os.Remove(file)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	good := hex.EncodeToString(bytes.Repeat([]byte{9}, 32))
	put(good+"\n", 0o600)
	if secret, err := ReadSecret(file); err != nil || len(secret) != 32 || secret[0] != 9 {
		t.Fatalf("%v, %v", secret, err)
	}
	put(good, 0o644)
	if _, err := ReadSecret(file); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("others may read it: %v", err)
	}
	put(good[:60], 0o600)
	if _, err := ReadSecret(file); err == nil {
		t.Error("a short key was taken")
	}
}

var w0 = time.UnixMilli(1_700_000_000_000)

func encoded(fields interface{ encode(*writer) }) []byte {
	var w writer
	fields.encode(&w)
	return w.b
}

func FuzzDecode(f *testing.F) {
	w := write("lane", "body")
	f.Add(encoded(newEntry(&w, w0)))
	f.Add(encoded(&ending{reason: "r", at: w0, answer: &Answer{Status: 200, Header: w.Header, Body: w.Body}}))
	f.Add(tries{attempts: 3, first: w0}.encode())
	f.Add(totals{seq: 7, open: 2}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decodeEntry(b); err == nil {
			again, err := decodeEntry(encoded(e))
			if err != nil || !reflect.DeepEqual(e, again) {
				t.Fatalf("%+v, %+v, %v", e, again, err)
			}
		}
		if d, err := decodeEnding(b); err == nil {
			if _, err := decodeEnding(encoded(d)); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = decodeTries(b)
		_, _ = decodePlace(b)
		_, _ = decodeTotals(b)
		_, _ = readLog(b, 1)
	})
}
