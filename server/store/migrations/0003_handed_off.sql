-- Conversations that a person has.

ALTER TABLE conversations ADD COLUMN handed_off_time REAL; -- NULL: the assistant answers

-- What to know after a start. Holds those that a person has only, so it stays small.
CREATE INDEX conversations_handed_off ON conversations (name) WHERE handed_off_time IS NOT NULL;
