-- +goose Up

-- The program adds all items of a commit to the search at once (insert.go). By
-- a trigger each of them was written out alone, because fts5 does so before
-- every statement that might have to be taken back.
DROP TRIGGER items_words_in;
CREATE TABLE words_upto (seq INTEGER NOT NULL) STRICT; -- one row: what was taken in later is not in items_words yet
INSERT INTO words_upto SELECT coalesce(max(seq), 0) FROM items;
