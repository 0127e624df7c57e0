-- What is asked of a store besides messages.
--
-- rate      What one minute did to the messages of one name in one queue. One upsert of each place in a transaction, by publish and settle.
--   minute        when it began
--   arrived .. dead   messages stored; tries that succeeded, failed with another to follow, or were the last
--   ran           microseconds they took together
-- presence  Workers that have said that they are there. Written with each beat of their hearts.
--   until         when it is over, if it is not renewed
--   said          JSON: what the worker says of itself

CREATE TABLE rate (
    minute INTEGER NOT NULL,
    queue TEXT NOT NULL,
    name TEXT NOT NULL,
    arrived INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    dead INTEGER NOT NULL,
    ran INTEGER NOT NULL,
    PRIMARY KEY (minute, queue, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE presence (
    worker TEXT PRIMARY KEY,
    started INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    until INTEGER NOT NULL,
    said TEXT NOT NULL
) STRICT, WITHOUT ROWID;
