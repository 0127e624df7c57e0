-- Version 1: messages, their place in queues, leases, history, results, bindings.
--
-- Data dictionary. Instants are microseconds since the epoch; NULL means "none" unless said otherwise.
--
-- message   What was published, once, however many groups have a copy. Written by publish, never changed but for `copies`.
--   seq           the sequence number of its first entry
--   id .. key     as published; queue is set for a task, topic for an event; content_type NULL: application/json; headers: a JSON object, NULL: none
--   moments       JSON: due, expires and deadline as the sender wrote them (absolute or relative)
--   copies        entries that point here; the row goes with the last one
-- entry     One message in one queue: the small row that every step rewrites.
--   seq           order of arrival; `id` is the message's, or `<message id>@<queue>` for an event's copy
--   state         scheduled, blocked, ready, running, retrying, succeeded, dead, cancelled, expired
--   due .. deadline   resolved on the store's clock; ready_since: since when it could be claimed
--   token         the lease it runs under, only while running; settled_by: the token that last settled it
--   tries         rows ever written to `try`; attempts, crashes, releases: the counters a delivery shows
--   unknown_since since when no worker knew its name; cancel_requested: 1 once it was asked to stop while it ran
--   unique_key    set while it holds its message's unique key in its queue, NULL once it is finished
-- lease     What one receive took. held: entries still under it (the row goes at 0); entries: JSON array of all it took.
-- try       The story of an entry, one row per try, the last hundred kept. error: JSON of type, message, traceback.
-- result    What a succeeded entry returned, JSON.
-- binding   Queues that were declared; pattern and grp for subscriptions.
-- paused    Queues that hand out nothing.
-- counter   Events counted since the file was made.
-- forgotten One row: the highest sequence number of an entry that was forgotten, so that no number is used twice.

CREATE TABLE message (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    queue TEXT,
    topic TEXT,
    body BLOB NOT NULL,
    content_type TEXT,
    headers TEXT,
    key TEXT,
    priority INTEGER NOT NULL,
    max_attempts INTEGER,
    timeout INTEGER,
    unique_key TEXT,
    moments TEXT,
    copies INTEGER NOT NULL
) STRICT;

CREATE TABLE entry (
    seq INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    id TEXT NOT NULL,
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    created INTEGER NOT NULL,
    due INTEGER,
    expires INTEGER,
    deadline INTEGER,
    ready_since INTEGER,
    token TEXT,
    started INTEGER,
    finished INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    releases INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    unknown_since INTEGER,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    settled_by TEXT,
    unique_key TEXT
) STRICT;

CREATE UNIQUE INDEX entry_id ON entry (id);
CREATE UNIQUE INDEX entry_unique ON entry (queue, unique_key) WHERE unique_key IS NOT NULL;
-- The claim: the front of a queue, and nothing else, whatever waits or is finished. (Last columns of indexes serve `count` only.)
CREATE INDEX entry_ready ON entry (queue, priority DESC, seq, ready_since) WHERE state = 'ready';
-- Promotion, and the next moment something is due.
CREATE INDEX entry_timed ON entry (queue, due, state) WHERE state IN ('scheduled', 'retrying');
-- Expiry of what waits.
CREATE INDEX entry_late ON entry (expires) WHERE expires IS NOT NULL AND state IN ('scheduled', 'blocked', 'ready', 'retrying');
-- Retention, oldest first in each queue.
CREATE INDEX entry_finished ON entry (queue, state, finished) WHERE finished IS NOT NULL;
-- Looking for the few that went wrong among the many that did not. (A list of states here would cost every update a microsecond.)
CREATE INDEX entry_ended ON entry (seq) WHERE finished IS NOT NULL AND state <> 'succeeded';

CREATE TABLE lease (
    id INTEGER PRIMARY KEY,
    token TEXT NOT NULL UNIQUE,
    worker TEXT NOT NULL,
    until INTEGER NOT NULL,
    held INTEGER NOT NULL,
    entries TEXT NOT NULL
) STRICT;

CREATE INDEX lease_until ON lease (until);

CREATE TABLE try (
    entry INTEGER NOT NULL,
    number INTEGER NOT NULL,
    worker TEXT NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    error TEXT,
    PRIMARY KEY (entry, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE result (
    entry INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE binding (
    queue TEXT PRIMARY KEY,
    pattern TEXT,
    grp TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE paused (
    queue TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    n INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE forgotten (
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO forgotten (seq) VALUES (0);
INSERT INTO counter (name, n) VALUES ('stale', 0), ('unrouted', 0), ('crashed', 0);

-- Everything known of an entry but its tries.
CREATE VIEW record AS
SELECT
    e.seq, e.id, e.queue, e.state, e.created, e.due, e.expires, e.deadline, e.started, e.finished,
    e.attempts, e.crashes, e.releases, e.cancel_requested, e.reason, r.body AS result,
    m.id AS message_id, m.name, m.queue AS task_queue, m.topic, m.body, m.content_type, m.headers, m.key, m.priority,
    m.max_attempts, m.timeout, m.unique_key, m.moments
FROM entry AS e
CROSS JOIN message AS m ON m.seq = e.message
LEFT JOIN result AS r ON r.entry = e.seq;
