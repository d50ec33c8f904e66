-- +goose Up

ALTER TABLE users ADD COLUMN password  TEXT    NOT NULL DEFAULT ''; -- argon2id, for people; '': logs in with the secret, if any
ALTER TABLE users ADD COLUMN karma     INTEGER NOT NULL DEFAULT 1;
ALTER TABLE users ADD COLUMN about     TEXT    NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN moderator INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN showdead  INTEGER NOT NULL DEFAULT 0;
CREATE INDEX users_lower ON users (lower(name)); -- two names that differ in size alone are one to people

ALTER TABLE items ADD COLUMN heads     INTEGER NOT NULL DEFAULT 0;  -- 1: stands on lists and heads a thread
ALTER TABLE items ADD COLUMN points    INTEGER NOT NULL DEFAULT 1;
ALTER TABLE items ADD COLUMN flags     INTEGER NOT NULL DEFAULT 0;
ALTER TABLE items ADD COLUMN state     INTEGER NOT NULL DEFAULT 0;  -- news.State
ALTER TABLE items ADD COLUMN edited_at INTEGER NOT NULL DEFAULT 0;  -- Unix milliseconds; 0: never
ALTER TABLE items ADD COLUMN site      TEXT    NOT NULL DEFAULT ''; -- news.SiteOf
ALTER TABLE items ADD COLUMN link      TEXT    NOT NULL DEFAULT ''; -- news.SameLink
ALTER TABLE items ADD COLUMN shelf     TEXT    NOT NULL DEFAULT ''; -- news.ShelfOf
ALTER TABLE items ADD COLUMN best      REAL    NOT NULL DEFAULT 0;  -- news.Best
UPDATE items SET heads = 1 WHERE kind IN ('story', 'poll', 'job');
UPDATE items SET points = 0 WHERE kind = 'pollopt';

DROP INDEX items_front;
DROP INDEX items_newest;
DROP INDEX items_thread;
DROP INDEX items_author;
CREATE INDEX items_front  ON items (rank DESC, id DESC)        WHERE heads = 1;
CREATE INDEX items_best   ON items (best DESC, id DESC)        WHERE heads = 1;
CREATE INDEX items_shelf  ON items (shelf, rank DESC, id DESC) WHERE heads = 1 AND shelf <> '';
CREATE INDEX items_newest ON items (seq DESC)                  WHERE heads = 1;
CREATE INDEX items_said   ON items (seq DESC)                  WHERE kind = 'comment';
CREATE INDEX items_site   ON items (site, seq DESC)            WHERE site <> '';
CREATE INDEX items_link   ON items (link)                      WHERE link <> '';
CREATE INDEX items_day    ON items (created_at)                WHERE heads = 1;
CREATE INDEX items_flags  ON items (seq DESC)                  WHERE flags > 0;
CREATE INDEX items_dead   ON items (seq DESC)                  WHERE state = 1;
CREATE INDEX items_thread ON items (root, id, parent, kind, points);
CREATE INDEX items_author ON items (author, heads, seq DESC);

-- What somebody has done with an item: one row per user, item and what.
CREATE TABLE marks (
	name  TEXT    NOT NULL REFERENCES users (name),
	what  TEXT    NOT NULL CHECK (what IN ('vote', 'flag', 'favourite', 'hidden')),
	item  INTEGER NOT NULL REFERENCES items (id),
	value INTEGER NOT NULL, -- of a vote 1 or -1, else 1
	at    INTEGER NOT NULL, -- Unix milliseconds
	PRIMARY KEY (name, what, item)
) STRICT, WITHOUT ROWID;
CREATE INDEX marks_latest ON marks (name, what, at DESC, item);
CREATE INDEX marks_flags  ON marks (item) WHERE what = 'flag';

CREATE TABLE sessions (
	id         TEXT    NOT NULL PRIMARY KEY, -- SHA-256 of what the client holds
	name       TEXT    NOT NULL REFERENCES users (name),
	kind       TEXT    NOT NULL CHECK (kind IN ('web', 'api')),
	created_at INTEGER NOT NULL,
	expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_name ON sessions (name);
CREATE INDEX sessions_expires ON sessions (expires_at);

CREATE VIRTUAL TABLE items_words USING fts5 (title, body, content = 'items', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2');
INSERT INTO items_words (items_words) VALUES ('rebuild');
-- +goose StatementBegin
CREATE TRIGGER items_words_in AFTER INSERT ON items BEGIN
	INSERT INTO items_words (rowid, title, body) VALUES (new.id, new.title, new.body);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER items_words_out AFTER DELETE ON items BEGIN
	INSERT INTO items_words (items_words, rowid, title, body) VALUES ('delete', old.id, old.title, old.body);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER items_words_new AFTER UPDATE OF title, body ON items BEGIN
	INSERT INTO items_words (items_words, rowid, title, body) VALUES ('delete', old.id, old.title, old.body);
	INSERT INTO items_words (rowid, title, body) VALUES (new.id, new.title, new.body);
END;
-- +goose StatementEnd
