package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/store"
)

// A verb is something that is done to the database once. The site may run
// meanwhile.
type verb struct {
	args string // what it wants
	run  func(ctx context.Context, st *store.Store, arg string, con console) error
}

var verbs = map[string]verb{
	"import":    {"<file>", importFile},
	"export":    {"<file>", exportFile},
	"backup":    {"<file>", backupFile},
	"moderator": {"<name>", makeModerator},
}

// console is where a verb talks to whoever called it.
type console struct {
	in  io.Reader
	out io.Writer
	err io.Writer
	log *zap.Logger
}

// runVerb does what args ask; the exit status is that of run.
func runVerb(ctx context.Context, args []string, getenv func(string) string, con console) int {
	v := verbs[args[0]]
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	cfg, err := parseConfig(nil, getenv, io.Discard)
	if err == nil {
		flags.StringVar(&cfg.db, "db", cfg.db, "")
		err = flags.Parse(args[1:])
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(con.out, usage)
		return 0
	case err == nil && flags.NArg() != 1:
		err = fmt.Errorf("it is called so: webapp %s [-db <where>] %s", args[0], v.args)
	}
	if err != nil {
		fmt.Fprintf(con.err, "webapp: %v\nTry webapp -help.\n", err)
		return 2
	}
	if err := withStore(ctx, cfg.db, con.log, func(st *store.Store) error { return v.run(ctx, st, flags.Arg(0), con) }); err != nil {
		fmt.Fprintf(con.err, "webapp: %s: %v\n", args[0], err)
		return 1
	}
	return 0
}

func withStore(ctx context.Context, db string, log *zap.Logger, do func(*store.Store) error) (err error) {
	st, err := store.Open(ctx, db, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return do(st)
}

// importPart is how many records share a transaction.
const importPart = 500

// importFile reads JSON Lines, "-" for the standard input: what export has
// written, or the simulator's items. What is there already is left as it is,
// so an import that broke off is begun again with the same words.
func importFile(ctx context.Context, st *store.Store, path string, con console) error {
	in, size := con.in, int64(0)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil {
			size = info.Size()
		}
		in = f
	}
	im := importer{store: st, show: newProgress(con.err, "bytes", size)}
	defer im.show.end()
	lines := bufio.NewReaderSize(in, 1<<20)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		end := err != nil
		if len(bytes.TrimSpace(line)) > 0 {
			if err := im.add(ctx, bytes.TrimSpace(line)); err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
		}
		im.show.add(int64(len(line)))
		if ctx.Err() != nil {
			return fmt.Errorf("stopped at line %d: call it again to go on", number)
		}
		if end {
			break
		}
	}
	if err := im.flush(ctx); err != nil {
		return err
	}
	im.show.end()
	fmt.Fprintf(con.out, "%d new of %d\n", im.added, im.seen)
	return nil
}

type importer struct {
	store       *store.Store
	show        *progress
	waiting     []store.Record
	seen, added int64
}

func (im *importer) add(ctx context.Context, line []byte) error {
	im.seen++
	if bytes.Contains(line, []byte(`"hanesst_id"`)) && !bytes.HasPrefix(line, []byte(`{"item"`)) {
		return im.simulated(ctx, line)
	}
	var r store.Record
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return err
	}
	if im.waiting = append(im.waiting, r); len(im.waiting) == importPart {
		return im.flush(ctx)
	}
	return nil
}

// simulated takes an item as POST /post would.
func (im *importer) simulated(ctx context.Context, line []byte) error {
	p, err := news.ParsePost(line)
	if err != nil {
		return err
	}
	if _, err := im.store.Item(ctx, p.ID); err == nil {
		return nil
	} else if !errors.Is(err, news.ErrNoSuchItem) {
		return err
	}
	if err := im.store.Take(ctx, p); err != nil {
		return err
	}
	im.added++
	return nil
}

func (im *importer) flush(ctx context.Context) error {
	n, err := im.store.Import(ctx, im.waiting)
	if err != nil {
		return err
	}
	im.added += n
	im.waiting = im.waiting[:0]
	return nil
}

// exportFile writes JSON Lines, to "-" for the standard output. A file that is
// there is continued after its last whole line.
func exportFile(ctx context.Context, st *store.Store, path string, con console) (err error) {
	out, after := con.out, store.Record{}
	if path != "-" {
		// 0600: it holds what was derived from people's passwords.
		f, errOpen := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if errOpen != nil {
			return errOpen
		}
		defer func() { err = errors.Join(err, f.Sync(), f.Close()) }()
		if after, err = lastRecord(f); err != nil {
			return fmt.Errorf("%s is not an export that broke off: %w", path, err)
		}
		out = f
	}
	total, err := st.Rows(ctx)
	if err != nil {
		return err
	}
	show := newProgress(con.err, "rows", total)
	defer show.end()
	lines := bufio.NewWriterSize(out, 1<<20)
	enc := json.NewEncoder(lines)
	enc.SetEscapeHTML(false)
	rows := 0
	err = st.Export(ctx, after, func(r store.Record) error {
		rows++
		show.add(1)
		return enc.Encode(r)
	})
	err = errors.Join(err, lines.Flush())
	show.end()
	if err == nil && path != "-" {
		fmt.Fprintf(con.out, "%d rows\n", rows)
	}
	return err
}

// lastRecord finds where to go on: it cuts a line that was not finished, and
// leaves the file at its end.
func lastRecord(f *os.File) (last store.Record, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return last, err
	}
	const most = 8 << 20 // the longest line is an item of 1 MiB, escaped
	from := max(0, size-most)
	tail := make([]byte, size-from)
	if _, err := f.ReadAt(tail, from); err != nil {
		return last, err
	}
	end := bytes.LastIndexByte(tail, '\n') + 1
	if end == 0 && from > 0 {
		return last, errors.New("its last line is too long")
	}
	if begin := bytes.LastIndexByte(tail[:max(0, end-1)], '\n') + 1; end > 0 {
		dec := json.NewDecoder(bytes.NewReader(tail[begin:end]))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&last); err != nil {
			return last, err
		}
	} else if size > 0 && !bytes.HasPrefix(tail, []byte(`{"`)) {
		return last, errors.New("it holds something else")
	}
	if err := f.Truncate(from + int64(end)); err != nil {
		return last, err
	}
	_, err = f.Seek(0, io.SeekEnd)
	return last, err
}

func backupFile(ctx context.Context, st *store.Store, path string, con console) error {
	start := time.Now()
	if err := st.Backup(ctx, path); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	fmt.Fprintf(con.out, "%s: %.1f MB in %.1f s\n", path, float64(info.Size())/1e6, time.Since(start).Seconds())
	return nil
}

func makeModerator(ctx context.Context, st *store.Store, name string, con console) error {
	if err := st.SetModerator(ctx, name, true); err != nil {
		return err
	}
	fmt.Fprintf(con.out, "%s is a moderator\n", name)
	return nil
}

// A progress is one line on a terminal; elsewhere it is silent.
type progress struct {
	w           io.Writer // nil: silent
	what        string
	done, total int64
	start, last time.Time
}

func newProgress(w io.Writer, what string, total int64) *progress {
	p := &progress{what: what, total: total, start: time.Now()}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.w = w
		}
	}
	return p
}

func (p *progress) add(n int64) {
	p.done += n
	now := time.Now()
	if p.w == nil || now.Sub(p.last) < 100*time.Millisecond {
		return
	}
	p.last = now
	fmt.Fprint(p.w, "\r\x1b[K", p.line(now))
}

// line is a bar where the end is known.
func (p *progress) line(now time.Time) string {
	rate := float64(p.done) / max(now.Sub(p.start).Seconds(), 0.001)
	if p.total <= 0 {
		return fmt.Sprintf("%d %s, %.0f/s", p.done, p.what, rate)
	}
	const width = 30
	share := min(1, float64(p.done)/float64(p.total))
	bar := bytes.Repeat([]byte("·"), width)
	full := int(share * width)
	left := time.Duration(float64(p.total-p.done) / max(rate, 1) * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("%s%s %3.0f %%, %s left", bytes.Repeat([]byte("█"), full), bar[full*len("·"):], 100*share, max(left, 0))
}

func (p *progress) end() {
	if p.w != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.w = nil
	}
}
