-- +goose Up

CREATE TABLE users (
	name       TEXT    NOT NULL PRIMARY KEY,
	secret     TEXT    NOT NULL, -- derived from the password string, see secret.go
	created_at INTEGER NOT NULL  -- Unix milliseconds
) STRICT;

CREATE TABLE items (
	id         INTEGER NOT NULL PRIMARY KEY, -- the simulator's hanesst_id
	seq        INTEGER NOT NULL UNIQUE,      -- order of intake: 1, 2, 3 …
	kind       TEXT    NOT NULL CHECK (kind IN ('story', 'comment', 'poll', 'pollopt', 'job')),
	parent     INTEGER NOT NULL,             -- 0: none. No foreign key: a parent may come after its reply
	root       INTEGER NOT NULL,             -- heads the thread; 0: an ancestor is not here yet
	author     TEXT    NOT NULL REFERENCES users (name),
	title      TEXT    NOT NULL,
	body       TEXT    NOT NULL,
	url        TEXT    NOT NULL,
	created_at INTEGER NOT NULL,             -- Unix milliseconds
	replies    INTEGER NOT NULL DEFAULT 0,   -- comments below, counted for the root of a thread
	rank       REAL    NOT NULL DEFAULT 0    -- news.Rank, moved by every comment
) STRICT;

CREATE INDEX items_front  ON items (rank DESC, id DESC) WHERE kind IN ('story', 'poll', 'job');
CREATE INDEX items_newest ON items (seq DESC)           WHERE kind IN ('story', 'poll', 'job');
CREATE INDEX items_thread ON items (root, id, parent, kind);
CREATE INDEX items_below  ON items (parent, id, kind);
CREATE INDEX items_author ON items (author, id);

-- +goose Down

DROP TABLE items;
DROP TABLE users;
