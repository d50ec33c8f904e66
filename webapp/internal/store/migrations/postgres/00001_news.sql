-- +goose Up

-- The tables of migrations/sqlite, which say what the columns mean.
CREATE TABLE users (
	name       TEXT     COLLATE "C" NOT NULL PRIMARY KEY,
	secret     TEXT     NOT NULL,
	created_at BIGINT   NOT NULL,
	password   TEXT     NOT NULL DEFAULT '',
	karma      BIGINT   NOT NULL DEFAULT 1,
	about      TEXT     NOT NULL DEFAULT '',
	moderator  BIGINT   NOT NULL DEFAULT 0,
	showdead   BIGINT   NOT NULL DEFAULT 0
);
CREATE INDEX users_lower ON users (lower(name));

CREATE TABLE items (
	id         BIGINT   NOT NULL PRIMARY KEY,
	seq        BIGINT   NOT NULL UNIQUE,
	kind       TEXT     NOT NULL CHECK (kind IN ('story', 'comment', 'poll', 'pollopt', 'job')),
	parent     BIGINT   NOT NULL,
	root       BIGINT   NOT NULL,
	author     TEXT     COLLATE "C" NOT NULL REFERENCES users (name),
	title      TEXT     NOT NULL,
	body       TEXT     NOT NULL,
	url        TEXT     NOT NULL,
	created_at BIGINT   NOT NULL,
	replies    BIGINT   NOT NULL DEFAULT 0,
	rank       DOUBLE PRECISION NOT NULL DEFAULT 0,
	heads      BIGINT   NOT NULL DEFAULT 0,
	points     BIGINT   NOT NULL DEFAULT 1,
	flags      BIGINT   NOT NULL DEFAULT 0,
	state      BIGINT   NOT NULL DEFAULT 0,
	edited_at  BIGINT   NOT NULL DEFAULT 0,
	site       TEXT     COLLATE "C" NOT NULL DEFAULT '',
	link       TEXT     COLLATE "C" NOT NULL DEFAULT '',
	shelf      TEXT     COLLATE "C" NOT NULL DEFAULT '',
	best       DOUBLE PRECISION NOT NULL DEFAULT 0,
	-- A tsvector holds a megabyte at most; of a longer text the beginning is found.
	words      TSVECTOR NOT NULL GENERATED ALWAYS AS (to_tsvector('simple', translate(title || ' ' || left(body, 100000), './:@_-&?=#<>', '            '))) STORED
);

CREATE INDEX items_front  ON items (rank DESC, id DESC)        WHERE heads = 1;
CREATE INDEX items_best   ON items (best DESC, id DESC)        WHERE heads = 1;
CREATE INDEX items_shelf  ON items (shelf, rank DESC, id DESC) WHERE heads = 1 AND shelf <> '';
CREATE INDEX items_newest ON items (seq DESC)                  WHERE heads = 1;
CREATE INDEX items_said   ON items (seq DESC)                  WHERE kind = 'comment';
CREATE INDEX items_site   ON items (site, seq DESC)            WHERE site <> '';
CREATE INDEX items_link   ON items (md5(link))                 WHERE link <> ''; -- a row of an index holds 2.7 kB, an address may be longer
CREATE INDEX items_day    ON items (created_at)                WHERE heads = 1;
CREATE INDEX items_flags  ON items (seq DESC)                  WHERE flags > 0;
CREATE INDEX items_dead   ON items (seq DESC)                  WHERE state = 1;
CREATE INDEX items_thread ON items (root, id, parent, kind, points);
CREATE INDEX items_below  ON items (parent, id, kind);
CREATE INDEX items_author ON items (author, heads, seq DESC);
CREATE INDEX items_words  ON items USING gin (words);

CREATE TABLE marks (
	name  TEXT     COLLATE "C" NOT NULL REFERENCES users (name),
	what  TEXT     COLLATE "C" NOT NULL CHECK (what IN ('vote', 'flag', 'favourite', 'hidden')),
	item  BIGINT   NOT NULL REFERENCES items (id),
	value BIGINT   NOT NULL,
	at    BIGINT   NOT NULL,
	PRIMARY KEY (name, what, item)
);
CREATE INDEX marks_latest ON marks (name, what, at DESC, item);
CREATE INDEX marks_flags  ON marks (item) WHERE what = 'flag';

CREATE TABLE sessions (
	id         TEXT     COLLATE "C" NOT NULL PRIMARY KEY,
	name       TEXT     COLLATE "C" NOT NULL REFERENCES users (name),
	kind       TEXT     NOT NULL CHECK (kind IN ('web', 'api')),
	created_at BIGINT   NOT NULL,
	expires_at BIGINT   NOT NULL
);
CREATE INDEX sessions_name ON sessions (name);
CREATE INDEX sessions_expires ON sessions (expires_at);
