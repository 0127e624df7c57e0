-- Unique keys that are held otherwise than while there is work left.
--
-- hold      The latest holder of a key, of those whose message says how it is held. Whether it still is follows from the state of the entry,
--           and from `until`: nothing has to be written when it no longer is. A key that is held while there is work left stands in
--           entry.unique_key instead, and has no row here.
--   entry         the holder; it may be forgotten while its window is open. id: its id
--   states        the names of the states in which it is held
--   until         when its window is over; NULL: it has none, and the row goes with its entry
--   since         when the first of a series came, of messages that took each other's place
--   last          the id of the message that changed the holder last, so that it does so once

CREATE TABLE hold (
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    entry INTEGER NOT NULL,
    id TEXT NOT NULL,
    states TEXT NOT NULL,
    until INTEGER,
    since INTEGER NOT NULL,
    last TEXT,
    PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX hold_entry ON hold (entry);
CREATE INDEX hold_until ON hold (until) WHERE until IS NOT NULL;
