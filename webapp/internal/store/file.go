package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"os"

	"modernc.org/sqlite"
)

// file connects to a file of SQLite that somebody may remove, move or replace
// while it is open. SQLite would go on writing into what has no name any more:
// posts would be answered, and gone with the process. So a connection is used
// only while the path leads to the file that it led to at first. Another one in
// its place is not touched: SQLite would add to it what stands in the log of the
// first. It never makes a file.
type file struct {
	path, dsn string
	is        os.FileInfo
	driver    driver.Driver
}

func newFile(path, dsn string) (*file, error) {
	db, err := sql.Open("sqlite", "") // opens nothing yet
	if err != nil {
		return nil, err
	}
	defer db.Close()
	is, err := os.Stat(path)
	return &file{path, dsn, is, db.Driver()}, err
}

func (f *file) Driver() driver.Driver { return f.driver }

// Connect opens the file.
func (f *file) Connect(context.Context) (driver.Conn, error) {
	if err := f.there(); err != nil {
		return nil, err
	}
	conn, err := f.driver.Open(f.dsn)
	if err != nil {
		return nil, err
	}
	return &fileConn{conn.(sqliteConn), f}, nil
}

// sqliteConn is what connections of the driver can do.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
	sqlite.DBStatus
}

type fileConn struct {
	sqliteConn
	file *file
}

// ResetSession runs before every use.
func (c *fileConn) ResetSession(ctx context.Context) error {
	if c.file.there() != nil {
		return driver.ErrBadConn
	}
	return c.sqliteConn.ResetSession(ctx)
}

func (f *file) there() error {
	now, err := os.Stat(f.path)
	switch {
	case err != nil:
		return err
	case !os.SameFile(f.is, now):
		return fmt.Errorf("%s is another file now: end the program, remove %[1]s-wal and %[1]s-shm, and start it again", f.path)
	}
	return nil
}

// stillThere is for who has written: what is in a file without a name is lost.
func stillThere(conn *sql.Conn) error {
	return conn.Raw(func(driver any) error { return driver.(*fileConn).file.there() })
}
