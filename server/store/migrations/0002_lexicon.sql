-- What administrators did to word lists, and what of it is in force.

CREATE TABLE lexicon_audit (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,       -- never used twice
  time     REAL NOT NULL,
  admin    TEXT NOT NULL,                           -- the name of the credential
  kind     TEXT NOT NULL,                           -- added, replaced, removed, restored, reloaded
  entry    TEXT NOT NULL DEFAULT '',                -- the entry's id; empty for a reload
  tag      TEXT NOT NULL DEFAULT '',
  word     TEXT NOT NULL DEFAULT '',
  action   TEXT NOT NULL DEFAULT '',                -- empty: that of the tag
  before   TEXT,                                    -- JSON; NULL: there was none
  after    TEXT                                     -- JSON; NULL: there is none
);

-- Rows of the log are written once. Whoever has the file can still change them; a defect cannot.
CREATE TRIGGER lexicon_audit_stays BEFORE UPDATE ON lexicon_audit BEGIN
  SELECT raise(ABORT, 'rows of the audit log are not changed');
END;

CREATE TABLE lexicon_overlay (
  id    TEXT PRIMARY KEY,                           -- the entry's id
  entry TEXT NOT NULL                               -- JSON
) WITHOUT ROWID;
