-- What was put off because a worker did not know its name, for those that do.
--
-- known     When somebody who knows a name has last asked for what was put off in a queue under it. One row for each handler that was ever
--           missing somewhere, forgotten after a month. Written by claims that name what they know, read by those that take what was put off.

-- A plain message is never in it; the first condition is the one that says so.
CREATE INDEX entry_nameless ON entry (queue, name, priority DESC, seq) WHERE unknown_since IS NOT NULL AND state = 'scheduled';

CREATE TABLE known (
    queue TEXT NOT NULL,
    name TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (queue, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX known_at ON known (at);
