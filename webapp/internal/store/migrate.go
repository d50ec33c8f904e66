package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
	"go.uber.org/zap"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date. Several processes may start at once
// on the same file: goose has no lock for SQLite, so the one who holds an
// exclusive transaction on a second, empty database migrates and the others
// wait for it. The system drops the lock when its holder dies.
func migrate(ctx context.Context, db *sql.DB, path string, log *zap.Logger) (err error) {
	unlock, err := lockMigrations(ctx, path+".migrate")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()

	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("store: find migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("store: read migrations: %w", err)
	}
	have, err := provider.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("store: read schema version of %s: %w", path, err)
	}
	sources := provider.ListSources()
	if newest := sources[len(sources)-1].Version; have > newest {
		return fmt.Errorf("store: %s has schema %d, this program knows %d: start the newer program", path, have, newest)
	}
	done, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("store: migrate %s: %w", path, err)
	}
	for _, m := range done {
		log.Info("schema migrated", zap.Int64("version", m.Source.Version), zap.Duration("took", m.Duration))
	}
	return nil
}

func lockMigrations(ctx context.Context, path string) (unlock func() error, err error) {
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
