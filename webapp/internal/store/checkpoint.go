package store

import (
	"context"
	"database/sql"
	"time"

	"go.uber.org/zap"
	"modernc.org/sqlite"
)

// checkpointer copies SQLite's log into the database beside the writer. SQLite
// itself does so within the commit that fills the log: 16 MB of pages are then
// read, written and synced while everybody waits, about 80 ms of the 100 that
// the simulator has.
//
// SQLite begins the log anew when all of it is in the database. While there are
// always more writes, that never comes by itself: the writer has added
// something during each copy. So when the log has become long, the writer
// copies that rest, which is little, between two of its transactions.
type checkpointer struct {
	db      *sql.DB // a connection of its own
	log     *zap.Logger
	begin   chan struct{} // buffered; the log is long
	copied  chan int      // buffered; what was in it then has been copied; its pages now
	most    int           // pagesToCopy; tests make it small
	pages   int           // the writer's: added since the last copy began
	copying bool          // the writer's
}

const (
	// pagesToCopy are 16 MB: a reader looks for a page in the log first, so it
	// must not be long, and every copy syncs the database.
	pagesToCopy = 4000
	// toEnd times as much, 64 MB: the writer stops for a moment to have it begun anew.
	toEnd = 4
	// toWait times as much, 128 MB: readers have kept it from being begun anew.
	toWait = 8
	// readersTimeout is how long the writer then waits for readers to end.
	readersTimeout = 100 * time.Millisecond
)

func newCheckpointer(path string, log *zap.Logger) (*checkpointer, error) {
	db, err := connect(path, "deferred")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return &checkpointer{db: db, log: log, most: pagesToCopy, begin: make(chan struct{}, 1), copied: make(chan int, 1)}, nil
}

// done says that a copy has ended; never, where there is no log.
func (c *checkpointer) done() <-chan int {
	if c == nil {
		return nil
	}
	return c.copied
}

// run ends when closing is closed.
func (c *checkpointer) run(closing <-chan struct{}) {
	for {
		select {
		case <-c.begin:
			c.copy(context.Background(), c.db, "PASSIVE")
			// Again, what came during the first: of the second less is left.
			c.copied <- c.copy(context.Background(), c.db, "PASSIVE") // there is room: the writer begins the next when it has this
		case <-closing:
			return
		}
	}
}

// copy says how many pages the log has; 0 where it cannot tell.
func (c *checkpointer) copy(ctx context.Context, on interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, mode string) (pages int) {
	var busy, done int
	if err := on.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &pages, &done); err != nil {
		c.log.Warn("the log of SQLite could not be copied; it grows until it can", zap.Error(err))
		return 0
	}
	return pages
}

// wrote counts what a commit has added, and has the log copied when it is
// long. It is the writer's.
func (c *checkpointer) wrote(conn *sql.Conn) {
	err := conn.Raw(func(driver any) error {
		n, _, err := driver.(sqlite.DBStatus).Status(sqlite.DBStatusCacheWrite, true)
		c.pages += n
		return err
	})
	if err != nil || c.copying || c.pages < c.most {
		return
	}
	c.pages, c.copying = 0, true
	c.begin <- struct{}{}
}

// finish ends a copy that has left a log of so many pages. A long one is
// copied to its end, between two transactions of the writer: the next one
// begins it anew, unless a reader still needs it. One that has become very
// long waits for readers.
func (c *checkpointer) finish(db *sql.DB, pages int) {
	if c.copying = false; pages < toEnd*c.most {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil {
		return
	}
	defer conn.Close()
	if c.copy(ctx, conn, "PASSIVE") < toWait*c.most {
		return
	}
	ctx, cancel = context.WithTimeout(ctx, readersTimeout)
	defer cancel()
	c.copy(ctx, conn, "RESTART")
}
