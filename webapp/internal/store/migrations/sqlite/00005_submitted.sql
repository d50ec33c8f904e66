-- +goose Up

-- What came of a submission, by its sender's name for it (once.go).
CREATE TABLE submitted (
	key  TEXT    NOT NULL PRIMARY KEY,
	item INTEGER NOT NULL,
	at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX submitted_at ON submitted (at);
