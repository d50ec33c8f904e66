package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
	"go.uber.org/zap"

	"github.com/portner/portner/webapp/internal/news"
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// migrateSQLite brings the schema up to date. Several processes may start at
// once on the same file: goose has no lock for SQLite, so the one who holds an
// exclusive transaction on a second, empty database migrates and the others
// wait for it. The system drops the lock when its holder dies.
func migrateSQLite(ctx context.Context, db *sql.DB, path string, log *zap.Logger) (err error) {
	unlock, err := lockFile(ctx, path+".migrate")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	links := goose.NewGoMigration(3, &goose.GoFunc{RunTx: fillLinks}, nil)
	return migrate(ctx, db, goose.DialectSQLite3, "migrations/sqlite", path, log, goose.WithGoMigrations(links))
}

// Locks in PostgreSQL, which every copy of this program knows by number.
const (
	lockMigrate int64 = 0x706f7274_00000001 + iota
	lockWrite
)

// migratePostgres does the same; the lock is the server's and belongs to a
// connection.
func migratePostgres(ctx context.Context, db *sql.DB, log *zap.Logger) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("store: connect: %w", err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", lockMigrate); err != nil {
		return fmt.Errorf("store: lock migrations: %w", err)
	}
	defer func() {
		_, unlocked := conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", lockMigrate)
		err = errors.Join(err, unlocked)
	}()
	return migrate(ctx, db, goose.DialectPostgres, "migrations/postgres", "the database", log)
}

func migrate(ctx context.Context, db *sql.DB, dialect goose.Dialect, dir, name string, log *zap.Logger, opts ...goose.ProviderOption) error {
	files, err := fs.Sub(migrations, dir)
	if err != nil {
		return fmt.Errorf("store: find migrations: %w", err)
	}
	provider, err := goose.NewProvider(dialect, db, files, append(opts, goose.WithDisableGlobalRegistry(true))...)
	if err != nil {
		return fmt.Errorf("store: read migrations: %w", err)
	}
	have, err := provider.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("store: read schema version of %s: %w", name, err)
	}
	sources := provider.ListSources()
	if newest := sources[len(sources)-1].Version; have > newest {
		return fmt.Errorf("store: %s has schema %d, this program knows %d: start the newer program", name, have, newest)
	}
	done, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("store: migrate %s: %w", name, err)
	}
	for _, m := range done {
		log.Info("schema migrated", zap.Int64("version", m.Source.Version), zap.Duration("took", m.Duration))
	}
	return nil
}

func lockFile(ctx context.Context, path string) (unlock func() error, err error) {
	db, err := sql.Open("sqlite", dsn(path, fmt.Sprintf("busy_timeout(%d)", time.Minute.Milliseconds())))
	if err != nil {
		return nil, fmt.Errorf("store: open migration lock: %w", err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, "BEGIN EXCLUSIVE"); err != nil {
		return nil, errors.Join(fmt.Errorf("store: lock migrations: %w", err), db.Close())
	}
	return db.Close, nil // closing the connection ends its transaction
}

// fillLinks computes what items of the first schema do not have; its rules
// are those of package news and not of SQL.
func fillLinks(ctx context.Context, tx *sql.Tx) error {
	type row struct {
		id              int64
		kind            news.Kind
		title, url      string
		replies, points int
		at              int64
	}
	rows, err := tx.QueryContext(ctx, `SELECT id, kind, title, url, replies, points, created_at FROM items WHERE heads = 1`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var all []row
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.id, &r.kind, &r.title, &r.url, &r.replies, &r.points, &r.at); err != nil {
			return err
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, r := range all {
		st := news.Standing{Points: r.points, Replies: r.replies}
		_, err := tx.ExecContext(ctx, `UPDATE items SET site = $2, link = $3, shelf = $4, best = $5 WHERE id = $1`,
			r.id, news.SiteOf(r.url), news.SameLink(r.url), news.ShelfOf(r.kind, r.title), st.Best(time.UnixMilli(r.at)))
		if err != nil {
			return err
		}
	}
	return nil
}

// refusedLogin tells an address that is wrong from a server that is away.
func refusedLogin(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) < 2 {
		return false
	}
	class := pg.Code[:2]
	return class == "28" || class == "3D" // wrong user or password, no such database
}
