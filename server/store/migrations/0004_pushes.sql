-- Messages that programs push: turns that nobody asked for.

ALTER TABLE turns ADD COLUMN pushed BLOB;                        -- msgpack of domain.Content; NULL: the turn answers somebody
ALTER TABLE turns ADD COLUMN recipient TEXT NOT NULL DEFAULT ''; -- to whom a push goes, in the terms of its channel
