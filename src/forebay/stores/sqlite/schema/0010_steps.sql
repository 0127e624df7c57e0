-- Durable steps of running handlers, and the events that they wait for.
--
-- step      What one step of an entry came to. Written by save under the entry's lease, and for a wait again when its event comes;
--           deleted with its entry.
--   number        in the order in which they were saved
--   name          unlike any other of its entry
--   position      which call of its try it was; 0: it ran beside others
--   kind          step, sleep, wait, version
--   try           the number of the try that saved it; at: when; took: how long it ran, in microseconds
--   due           when a sleep ends, or until when an event is waited for
--   topic, key    of the event that is waited for; key NULL: whatever its key
--   met           when that event came, NULL: it has not
--   met_by        the number of the try that ran when it came, NULL: none did
--   body          the result, or the event's; content_type NULL: application/json
-- arrival   Events that more entries wait for than one transaction wakes, and those that came after them. Written by publish, worked off by
--           jobs that follow, or by sweep.
--   last          the highest number of a step that was there when it came

CREATE TABLE step (
    number INTEGER PRIMARY KEY,
    entry INTEGER NOT NULL,
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    try INTEGER NOT NULL,
    at INTEGER NOT NULL,
    took INTEGER NOT NULL,
    due INTEGER,
    topic TEXT,
    key TEXT,
    met INTEGER,
    met_by INTEGER,
    body BLOB,
    content_type TEXT
) STRICT;

CREATE UNIQUE INDEX step_name ON step (entry, name);
-- What an event looks for: by their time, so that those whose time is over are passed by. Empty as long as nobody waits.
CREATE INDEX step_wait ON step (topic, key, due) WHERE topic IS NOT NULL AND met IS NULL;

CREATE TABLE arrival (
    number INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    key TEXT,
    body BLOB,
    content_type TEXT,
    last INTEGER NOT NULL
) STRICT;
