-- +goose Up

-- The index of words has no order, and a word may be in every other text. With
-- the block of the id beside it a part of the items is asked for the words
-- (search.go). A million items take some seconds.
DROP INDEX items_words;
CREATE INDEX items_words ON items USING gin (words, (ARRAY[(id >> 12) * 2 + heads]));
