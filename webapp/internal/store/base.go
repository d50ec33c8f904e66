package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

// base is a pool of connections to one of the two databases. A statement has
// one text for both, in which $1 stands for an argument and three words for what
// they do not share:
//
//	ids($1)        the ids in a JSON array
//	same_link($1)  link equals the argument, by index
//	by(name)       the index to use, for SQLite, which does not count rows
type base struct {
	db       *sql.DB
	postgres bool

	mu    sync.Mutex
	texts map[string]string    // mu; as the database reads them
	stmts map[string]*sql.Stmt // mu; prepared, SQLite only: pgx remembers by itself
}

func newBase(db *sql.DB, postgres bool) *base {
	return &base{db: db, postgres: postgres, texts: make(map[string]string), stmts: make(map[string]*sql.Stmt)}
}

var (
	forSQLite = strings.NewReplacer(
		"ids($1)", "(SELECT value FROM json_each($1))",
		"same_link($1)", "link = $1")
	forPostgres = strings.NewReplacer(
		"ids($1)", "(SELECT value::bigint FROM jsonb_array_elements_text($1::jsonb))",
		"same_link($1)", "md5(link) = md5($1) AND link = $1")
)

var byIndex = regexp.MustCompile(`by\((\w+)\)`)

func translate(text string, postgres bool) string {
	if postgres {
		return byIndex.ReplaceAllString(forPostgres.Replace(text), "")
	}
	return byIndex.ReplaceAllString(forSQLite.Replace(text), "INDEXED BY $1")
}

func (b *base) text(text string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	own, ok := b.texts[text]
	if !ok {
		own = translate(text, b.postgres)
		b.texts[text] = own
	}
	return own
}

// prepared is the statement for a text; nil where the text is to be sent as
// it is. Not within a transaction: it may wait for a connection.
func (b *base) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	if b.postgres {
		return nil, nil
	}
	own := b.text(text)
	if stmt := b.known(text); stmt != nil {
		return stmt, nil
	}
	stmt, err := b.db.PrepareContext(ctx, own)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if faster := b.stmts[text]; faster != nil {
		stmt.Close()
		return faster, nil
	}
	b.stmts[text] = stmt
	return stmt, nil
}

func (b *base) known(text string) *sql.Stmt {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stmts[text]
}

// at is where statements run: a pool, or a transaction on one of its
// connections.
type at struct {
	base *base
	tx   *sql.Tx
	// Of a change: what was run unprepared, and the statements as its
	// transaction has them.
	miss  *[]string
	bound map[string]*sql.Stmt
}

func (a at) query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	if a.tx == nil {
		stmt, err := a.base.prepared(ctx, text)
		switch {
		case err != nil:
			return nil, err
		case stmt != nil:
			return stmt.QueryContext(ctx, args...)
		}
		return a.base.db.QueryContext(ctx, a.base.text(text), args...)
	}
	if stmt := a.inTx(ctx, text); stmt != nil {
		return stmt.QueryContext(ctx, args...)
	}
	return a.tx.QueryContext(ctx, a.base.text(text), args...)
}

func (a at) exec(ctx context.Context, text string, args ...any) (sql.Result, error) {
	if stmt := a.inTx(ctx, text); stmt != nil {
		return stmt.ExecContext(ctx, args...)
	}
	return a.tx.ExecContext(ctx, a.base.text(text), args...)
}

// inTx is the statement of a text within the transaction; nil where it has
// not been prepared.
func (a at) inTx(ctx context.Context, text string) *sql.Stmt {
	if stmt := a.bound[text]; stmt != nil {
		return stmt
	}
	known := a.base.known(text)
	if known == nil {
		if a.miss != nil {
			*a.miss = append(*a.miss, text)
		}
		return nil
	}
	stmt := a.tx.StmtContext(ctx, known)
	if a.bound != nil {
		a.bound[text] = stmt
	}
	return stmt
}

// readTimeout is how long a query may take. A database that hangs must not
// hold requests for ever.
const readTimeout = 5 * time.Second

// many reads all rows of a query, or those before the one of which scan says
// errEnough; one that fails or takes too long is ErrUnavailable.
func many[T any](ctx context.Context, a at, act string, scan func(*sql.Rows) (T, error), text string, args ...any) ([]T, error) {
	if a.bound == nil { // a change has a time of its own
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, readTimeout)
		defer cancel()
	}
	if a.tx == nil { // of a transaction its whole is counted
		defer spend(ctx)()
	}
	rows, err := a.query(ctx, text, args...)
	if err != nil {
		return nil, unavailable(act, err)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if errors.Is(err, errEnough) {
			return all, nil
		}
		if err != nil {
			return nil, unavailable(act, err)
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable(act, err)
	}
	return all, nil
}

// one reads the first row into dest; found is false where there is none.
func one(ctx context.Context, a at, act, text string, dest []any, args ...any) (found bool, err error) {
	scan := func(rows *sql.Rows) (bool, error) { return true, rows.Scan(dest...) }
	rows, err := many(ctx, a, act, scan, text, args...)
	return len(rows) > 0, err
}

// into lists where to put the columns of a row.
func into(dest ...any) []any { return dest }

func scanOne[T any](rows *sql.Rows) (v T, err error) { return v, rows.Scan(&v) }

func (b *base) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, stmt := range b.stmts {
		errs = append(errs, stmt.Close())
	}
	clear(b.stmts)
	return errors.Join(append(errs, b.db.Close())...)
}

// unavailable tells callers that an error of the database is not theirs, and
// leaves a cancelled request what it is.
func unavailable(act string, err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("store: %s: %w", act, err)
	}
	return fmt.Errorf("store: %s: %w: %w", act, ErrUnavailable, err)
}
