-- +goose Up

-- What came of a submission, by its sender's name for it (once.go).
CREATE TABLE submitted (
	key  TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
	item BIGINT NOT NULL,
	at   BIGINT NOT NULL
);
CREATE INDEX submitted_at ON submitted (at);
