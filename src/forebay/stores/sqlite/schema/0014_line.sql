-- Rules of queues: how many may begin in a time and run at once, of a queue, of a key and of a name, in order and in turn.
--
-- binding
--   rules         JSON of Rules: what was declared in code; NULL: nothing
-- forgotten
--   limits        changes with rules as well
-- lease
--   queue         where it is from; NULL unless that queue bounds how many run at once. Such a queue counts what its leases hold
-- entry
--   line          the line it stands in, or did when it was over; NULL: none. As long as the rules leave no room for it there it is blocked,
--                 and so is in no index that a claim reads
--   rank          its turn, while it is ready in a fair queue: the virtual time at which it begins
-- line      Those of one key of a queue, or of tasks of one name that stand in no line of a key, or (both empty) all that have no key.
--   full          when its bucket is full again, in nanoseconds since the epoch
--   finish        the virtual time at which its last turn ends
--   due           when another may stand, where that waits for the bucket; NULL: when one of it moves
--   idle          nobody is in it: when it may be forgotten
-- line_work Lines of which an entry has moved. Marked by the triggers below, and by the publish for what begins in one (a trigger would be
--           asked of every entry there is); worked off before the same transaction ends.
-- pace      Of a queue: when its bucket is full again, in nanoseconds; and its virtual time, at which the last turn taken began.
-- bucket    What handlers share by name: when it is full again, in nanoseconds.
-- relining  Queues whose rules have changed, as long as not all that waits has been looked at. Nothing is handed out there meanwhile.
--   entry, line   the last that was looked at; NULL: all were

ALTER TABLE binding ADD COLUMN rules TEXT;
ALTER TABLE lease ADD COLUMN queue TEXT;
ALTER TABLE entry ADD COLUMN line INTEGER;
ALTER TABLE entry ADD COLUMN rank INTEGER;

CREATE INDEX lease_queue ON lease (queue, held) WHERE queue IS NOT NULL;
-- What waits for a place, in the order in which it gets one.
CREATE INDEX entry_waits ON entry (queue, line, priority DESC, seq, flow) WHERE line IS NOT NULL AND state = 'blocked';
-- Who is in a line, by state. What stands in none pays one comparison for this index and the two below.
CREATE INDEX entry_lined ON entry (line, state, started, priority, seq, finished) WHERE line IS NOT NULL AND finished IS NULL;
-- The front of a fair queue.
CREATE INDEX entry_fair ON entry (queue, priority DESC, rank, seq) WHERE line IS NOT NULL AND state = 'ready';
-- How many of a name run.
CREATE INDEX entry_named ON entry (name, line) WHERE line IS NOT NULL AND state = 'running';

CREATE TABLE line (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    full INTEGER NOT NULL DEFAULT 0,
    finish INTEGER NOT NULL DEFAULT 0,
    due INTEGER,
    idle INTEGER,
    UNIQUE (queue, key, name)
) STRICT;
CREATE INDEX line_queue ON line (queue);
CREATE INDEX line_due ON line (queue, due) WHERE due IS NOT NULL;
CREATE INDEX line_idle ON line (idle) WHERE idle IS NOT NULL;

CREATE TABLE line_work (
    line INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE pace (
    queue TEXT PRIMARY KEY,
    full INTEGER NOT NULL,
    turn INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE bucket (
    name TEXT PRIMARY KEY,
    full INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX bucket_full ON bucket (full);

CREATE TABLE relining (
    queue TEXT PRIMARY KEY,
    entry INTEGER,
    line INTEGER
) STRICT, WITHOUT ROWID;

CREATE TRIGGER line_moved AFTER UPDATE OF state, line ON entry WHEN new.line IS NOT NULL
BEGIN
    INSERT INTO line_work (line) VALUES (new.line) ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER line_left AFTER UPDATE OF line ON entry WHEN old.line IS NOT NULL AND new.line IS NOT old.line
BEGIN
    INSERT INTO line_work (line) VALUES (old.line) ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER line_deleted AFTER DELETE ON entry WHEN old.line IS NOT NULL AND old.finished IS NULL
BEGIN
    INSERT INTO line_work (line) VALUES (old.line) ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER line_opened AFTER INSERT ON line
BEGIN
    INSERT INTO line_work (line) VALUES (new.id) ON CONFLICT DO NOTHING;
END;
