-- The outbox: what people have to be told, and how far that has come with each target. Times are UTC, ISO 8601.

CREATE TABLE IF NOT EXISTS facts (fact TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS notices (
    notice_id TEXT PRIMARY KEY,
    subject TEXT NOT NULL,
    severity TEXT NOT NULL,
    notice TEXT NOT NULL,
    noted_at TEXT NOT NULL,
    place INTEGER NOT NULL
) WITHOUT ROWID;

-- One row per message that was put together: it is sent under its id until it arrives, or is given up.
CREATE TABLE IF NOT EXISTS messages (
    message_id TEXT NOT NULL,
    target TEXT NOT NULL,
    is_summary INTEGER NOT NULL,
    severity TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'given up')),
    made_at TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_attempt_at TEXT NOT NULL,
    sent_at TEXT,
    last_error TEXT,
    PRIMARY KEY (message_id, target)
) WITHOUT ROWID;

-- One row per notice and target. message_id is NULL until a message has it.
CREATE TABLE IF NOT EXISTS deliveries (
    target TEXT NOT NULL,
    notice_id TEXT NOT NULL REFERENCES notices,
    message_id TEXT,
    PRIMARY KEY (target, notice_id)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS deliveries_by_message ON deliveries (target, message_id);
CREATE INDEX IF NOT EXISTS messages_by_state ON messages (state, target);
