-- Turns: inbox, outbox, memory and log in one table.
--
-- Kept to what SQLite 3.24 understands (no STRICT, no RETURNING): Python 3.11 of some
-- distributions still runs on 3.34.

CREATE TABLE turns (
  sequence            INTEGER PRIMARY KEY AUTOINCREMENT, -- arrival; never used twice, so that a memory cut stays true after deletions
  conversation        TEXT    NOT NULL,
  request_id          TEXT    NOT NULL,
  state               INTEGER NOT NULL,             -- domain.TurnState
  delivery_state      INTEGER NOT NULL,             -- domain.DeliveryState
  epoch               INTEGER NOT NULL DEFAULT 0,
  attempts            INTEGER NOT NULL DEFAULT 0,
  offers              INTEGER NOT NULL DEFAULT 0,
  retries             INTEGER NOT NULL DEFAULT 0,
  account             TEXT,                         -- NULL: owed to nobody
  address             BLOB,
  progress            BLOB    NOT NULL DEFAULT x'',
  deliver_after       REAL    NOT NULL DEFAULT 0,
  detail              TEXT    NOT NULL DEFAULT '',
  create_time         REAL    NOT NULL,
  end_time            REAL,
  settle_time         REAL,                         -- when the channel said delivered or undeliverable
  first_delta_latency REAL,
  has_payload         INTEGER NOT NULL DEFAULT 1,   -- 0: input, reply, events and address were emptied by retention
  bypass_memory       INTEGER NOT NULL DEFAULT 0,
  remembered          INTEGER NOT NULL DEFAULT 0,   -- 1: a round that memory may use
  input               BLOB    NOT NULL,             -- msgpack of domain.Content
  input_digest        BLOB    NOT NULL,
  ask                 BLOB    NOT NULL,             -- msgpack of rows.AskBlob: the rest of the ask
  assistant           TEXT    NOT NULL,
  reply               TEXT    NOT NULL DEFAULT '',
  finish_reason       INTEGER NOT NULL DEFAULT 0,
  cache_outcome       INTEGER NOT NULL DEFAULT 0,
  model               TEXT    NOT NULL DEFAULT '',
  input_tokens        INTEGER,                      -- NULL: no usage known
  output_tokens       INTEGER,
  model_attempts      INTEGER,
  failure             BLOB,                         -- msgpack of domain.Failure
  events              BLOB,                         -- msgpack of the events; NULL: none
  UNIQUE (conversation, request_id)
);

-- Listing, and memory: `remembered` is in it so that counting rounds reads the index alone.
CREATE INDEX turns_by_conversation ON turns (conversation, sequence, remembered);

-- What to go on with after a start. Holds open turns only, so it stays small.
CREATE INDEX turns_owed ON turns (sequence) WHERE delivery_state = 1;

-- What an operator may have delivered again.
CREATE INDEX turns_undeliverable ON turns (account) WHERE delivery_state = 3;

-- What retention may look at. A turn that was settled while it ran, and whose process
-- then died, has no end: it ages from its settlement.
CREATE INDEX turns_aging ON turns (has_payload, delivery_state, coalesce(end_time, settle_time))
  WHERE delivery_state <> 1;

CREATE TABLE conversations (
  name         TEXT    PRIMARY KEY,
  create_time  REAL    NOT NULL,
  update_time  REAL    NOT NULL,
  cut_sequence INTEGER NOT NULL DEFAULT 0           -- turns up to here are not remembered
);

-- Triggers, because a statement more costs a hand-over of the interpreter between the
-- writer and the event loop, which is dearer than the row itself.
CREATE TRIGGER turns_begin AFTER INSERT ON turns BEGIN
  INSERT INTO conversations (name, create_time, update_time)
    VALUES (new.conversation, new.create_time, coalesce(new.end_time, new.create_time))
    ON CONFLICT (name) DO UPDATE SET update_time = max(update_time, excluded.update_time);
END;

CREATE TRIGGER turns_end AFTER UPDATE OF end_time ON turns WHEN new.end_time IS NOT NULL BEGIN
  UPDATE conversations SET update_time = max(update_time, new.end_time) WHERE name = new.conversation;
END;

CREATE TABLE ratings (
  sequence INTEGER NOT NULL REFERENCES turns (sequence) ON DELETE CASCADE,
  rater    TEXT    NOT NULL,                        -- empty: unknown
  rating   INTEGER NOT NULL,                        -- domain.Rating
  comment  TEXT    NOT NULL,
  time     REAL    NOT NULL,
  PRIMARY KEY (sequence, rater)
) WITHOUT ROWID;

-- One row that a probe writes, to find out whether writing works.
CREATE TABLE probe (
  id   INTEGER PRIMARY KEY CHECK (id = 1),
  time REAL NOT NULL
);
