-- Lines and buckets: who may stand ready where a rule says so.
-- Locks: `rule_room`, `rule_full` and `rule_front` are also read without one; all else in a write transaction, each statement bounded.
-- Indexes: entry_lined, entry_waits, entry_fair, entry_named, line_queue, line_due, line_idle, lease_queue, primary keys.

-- name: rules
-- All rules, by queue. A small table, read whole.
SELECT queue, rules FROM binding WHERE rules IS NOT NULL

-- name: rules_said
-- What was said of queues while they ran. :kind is that of such notes. Index: primary key of note.
SELECT name, body FROM note WHERE kind = :kind AND body IS NOT NULL

-- name: rules_mark
-- What changes with every limit and rule. The one row of its table.
SELECT limits FROM forgotten

-- name: rule_room
-- What a queue with a rule is like: how many run by its leases, when its bucket is full, when the first line is due, whether it is looked
-- through. Indexes: lease_queue, line_due, primary keys; of leases those of the queue, which are as many as may run at most.
SELECT
    (SELECT coalesce(sum(held), 0) FROM lease INDEXED BY lease_queue WHERE queue = :queue),
    (SELECT full FROM pace WHERE queue = :queue),
    (SELECT due FROM line INDEXED BY line_due WHERE queue = :queue AND due IS NOT NULL ORDER BY due LIMIT 1),
    EXISTS (SELECT 1 FROM relining WHERE queue = :queue)

-- name: rule_full
-- How many run of some names. :names is a JSON array. Index: entry_named, as many as may run.
SELECT name, count(*) FROM entry INDEXED BY entry_named
WHERE line IS NOT NULL AND state = 'running' AND name IN (SELECT value FROM json_each(:names)) GROUP BY name

-- name: rule_front
-- Whether there is anything at the front but tasks of the names :full, a JSON array. Index: entry_ready in its own order; passes by those of the
-- names that stand, which are as many as may run or, where they stand in lines of keys, as these let stand.
SELECT EXISTS (
    SELECT 1 FROM entry INDEXED BY entry_ready
    WHERE queue = :queue AND state = 'ready' AND name NOT IN (SELECT value FROM json_each(:full))
)

-- name: claim_front_ruled
-- As `claim_front`, without tasks of the names :full, a JSON array.
SELECT {piece_place}, :now AS started, {piece_message}
FROM entry AS e INDEXED BY entry_ready
CROSS JOIN message AS m ON m.seq = e.message
WHERE e.queue = :queue AND e.state = 'ready' AND (e.expires IS NULL OR e.expires > :now)
    AND NOT EXISTS (SELECT 1 FROM paused AS p WHERE p.queue = :queue)
    AND e.name NOT IN (SELECT value FROM json_each(:full))
ORDER BY e.priority DESC, e.seq LIMIT :limit

-- name: claim_front_fair
-- As `claim_front_ruled`, by turns. Index: entry_fair in its own order.
SELECT {piece_place}, :now AS started, {piece_message}
FROM entry AS e INDEXED BY entry_fair
CROSS JOIN message AS m ON m.seq = e.message
WHERE e.queue = :queue AND e.line IS NOT NULL AND e.state = 'ready' AND (e.expires IS NULL OR e.expires > :now)
    AND NOT EXISTS (SELECT 1 FROM paused AS p WHERE p.queue = :queue)
    AND e.name NOT IN (SELECT value FROM json_each(:full))
ORDER BY e.priority DESC, e.rank, e.seq LIMIT :limit

-- name: claim_ready_known
-- Make ready what was put off though the caller knows its name, where it has to stand in line. :names is a JSON array.
-- Index: entry_nameless, then primary keys. Sorts the places of no more than :limit for each name that is put off.
UPDATE entry SET state = 'ready', ready_since = :now
WHERE seq IN (
    SELECT f.seq FROM json_each(:names) AS n
    CROSS JOIN entry AS f ON f.seq IN (
        SELECT p.seq FROM entry AS p INDEXED BY entry_nameless
        WHERE p.queue = :queue AND p.name = n.value AND p.unknown_since IS NOT NULL AND p.state = 'scheduled'
            AND (p.expires IS NULL OR p.expires > :now)
        ORDER BY p.priority DESC, p.seq LIMIT :limit
    )
    ORDER BY f.priority DESC, f.seq LIMIT :limit
) AND NOT EXISTS (SELECT 1 FROM paused AS p WHERE p.queue = :queue)

-- name: line_open
-- Make lines that are not there. :batch is a JSON array of arrays: queue, key, name. Index: the line's places.
INSERT INTO line (queue, key, name) SELECT value ->> 0, value ->> 1, value ->> 2 FROM jsonb_each(:batch) WHERE true ON CONFLICT DO NOTHING

-- name: line_ids
-- The numbers of lines. :batch as in line_open. Index: the line's places.
SELECT l.queue, l.key, l.name, l.id FROM jsonb_each(:batch) AS v
CROSS JOIN line AS l ON l.queue = v.value ->> 0 AND l.key = v.value ->> 1 AND l.name = v.value ->> 2

-- name: line_join
-- Entries stand in these lines, as if they had not begun (:anew) or as they are. :batch is a JSON array of arrays: seq, line.
-- Index: primary key.
UPDATE entry SET line = v.line, rank = NULL, started = iif(:anew, NULL, started)
FROM (SELECT value ->> 0 AS seq, value ->> 1 AS line FROM jsonb_each(:batch)) AS v
WHERE entry.seq = v.seq

-- name: line_enter
-- Which of some entries are ready, or wait for their time, and stand in no line. :entries is a JSON array of sequence numbers. Index: primary key.
SELECT e.seq, e.queue, e.key, e.name FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value
WHERE e.state IN ('ready', 'scheduled') AND e.line IS NULL

-- name: line_marked
-- Whether an entry of any line has moved.
SELECT EXISTS (SELECT 1 FROM line_work)

-- name: line_stands
-- Lines of which an entry has moved, a bounded number: what they are; how many of them run and stand, no further than :most; whether one is
-- between two tries; the first that waits and the last that stands and has not begun, each as a number in the order of lines; whether anybody is in it.
-- Indexes: entry_lined, entry_waits, primary keys.
SELECT
    w.line, l.queue, l.key, l.name, l.full, l.finish, l.due, l.idle,
    (SELECT count(*) FROM entry INDEXED BY entry_lined WHERE line = w.line AND state = 'running' AND finished IS NULL),
    (
        SELECT count(*) FROM (
            SELECT 1 FROM entry INDEXED BY entry_lined WHERE line = w.line AND state = 'ready' AND finished IS NULL LIMIT :most
        )
    ),
    EXISTS (SELECT 1 FROM entry INDEXED BY entry_lined WHERE line = w.line AND state = 'retrying' AND started >= 0 AND finished IS NULL)
    OR EXISTS (SELECT 1 FROM entry INDEXED BY entry_lined WHERE line = w.line AND state = 'scheduled' AND started >= 0 AND finished IS NULL),
    (
        SELECT ((9 - priority) << 56) | seq FROM entry INDEXED BY entry_waits
        WHERE queue = l.queue AND line = w.line AND state = 'blocked' ORDER BY priority DESC, seq LIMIT 1
    ),
    (
        SELECT max(((9 - priority) << 56) | seq) FROM (
            SELECT priority, seq FROM entry INDEXED BY entry_lined
            WHERE line = w.line AND state = 'ready' AND started IS NULL AND finished IS NULL LIMIT :most
        )
    ),
    EXISTS (SELECT 1 FROM entry INDEXED BY entry_lined WHERE line = w.line AND finished IS NULL)
FROM (SELECT line FROM line_work ORDER BY line LIMIT :limit) AS w
LEFT JOIN line AS l ON l.id = w.line

-- name: line_waits
-- Of some entries those that wait in line: the line and its bucket; how many of it run, and whether one is between two tries; how many wait or
-- stand before it, counted no further than :most of each. Without a lock. :entries is a JSON array. Indexes: entry_lined, entry_waits.
SELECT
    e.seq, e.queue, l.key, l.name, l.full, l.due,
    (SELECT count(*) FROM entry INDEXED BY entry_lined WHERE line = l.id AND state = 'running' AND finished IS NULL),
    EXISTS (SELECT 1 FROM entry INDEXED BY entry_lined WHERE line = l.id AND state = 'retrying' AND started >= 0 AND finished IS NULL)
    OR EXISTS (SELECT 1 FROM entry INDEXED BY entry_lined WHERE line = l.id AND state = 'scheduled' AND started >= 0 AND finished IS NULL),
    min(
        (
            SELECT count(*) FROM (
                SELECT 1 FROM entry AS b INDEXED BY entry_waits
                WHERE b.queue = e.queue AND b.line = l.id AND b.state = 'blocked' AND b.priority > e.priority LIMIT :most
            )
        ) + (
            SELECT count(*) FROM (
                SELECT 1 FROM entry AS b INDEXED BY entry_waits
                WHERE b.queue = e.queue AND b.line = l.id AND b.state = 'blocked' AND b.priority = e.priority AND b.seq < e.seq LIMIT :most
            )
        ), :most
    ) + (
        SELECT count(*) FROM (
            SELECT 1 FROM entry INDEXED BY entry_lined WHERE line = l.id AND state = 'ready' AND finished IS NULL LIMIT :most
        )
    )
FROM json_each(:entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
CROSS JOIN line AS l ON l.id = e.line
WHERE e.state = 'blocked'

-- name: line_first
-- The first :number of some lines that wait. :lines is a JSON array. Index: entry_waits in its own order.
SELECT e.seq FROM json_each(:lines) AS j
CROSS JOIN line AS l ON l.id = j.value
CROSS JOIN entry AS e ON e.seq IN (
    SELECT b.seq FROM entry AS b INDEXED BY entry_waits
    WHERE b.queue = l.queue AND b.line = l.id AND b.state = 'blocked' ORDER BY b.priority DESC, b.seq LIMIT :number
)

-- name: line_last
-- Those of a line that stand behind the first :number; of those that have begun none is behind one that has not.
-- Index: entry_lined; sorts what stands in one line.
SELECT seq FROM entry INDEXED BY entry_lined WHERE line = :line AND state = 'ready' AND finished IS NULL
ORDER BY started IS NULL, priority DESC, seq LIMIT 1000 OFFSET :number

-- name: line_block
-- Entries wait for their turn. :entries is a JSON array of sequence numbers. Index: primary key.
UPDATE entry SET state = 'blocked' WHERE seq IN (SELECT value FROM json_each(:entries))

-- name: line_unblock
-- It is their turn. :entries is a JSON array of sequence numbers. Index: primary key.
UPDATE entry SET state = 'ready', ready_since = :now WHERE seq IN (SELECT value FROM json_each(:entries))

-- name: line_rankless
-- Those that stand in some lines without a rank, in the order of their lines. :lines is a JSON array. Index: entry_lined; sorts what stands.
SELECT e.line, e.seq FROM json_each(:lines) AS j
CROSS JOIN entry AS e INDEXED BY entry_lined ON e.line = j.value
WHERE e.state = 'ready' AND e.finished IS NULL AND e.rank IS NULL
ORDER BY e.line, e.started IS NULL, e.priority DESC, e.seq

-- name: line_rank
-- Give turns. :batch is a JSON array of arrays: seq, rank. Index: primary key.
UPDATE entry SET rank = v.rank FROM (SELECT value ->> 0 AS seq, value ->> 1 AS rank FROM jsonb_each(:batch)) AS v WHERE entry.seq = v.seq

-- name: line_keep
-- What has changed of lines. :batch is a JSON array of arrays: line, finish, due, idle. Index: primary key.
UPDATE line SET finish = v.finish, due = v.due, idle = v.idle
FROM (SELECT value ->> 0 AS id, value ->> 1 AS finish, value ->> 2 AS due, value ->> 3 AS idle FROM jsonb_each(:batch)) AS v
WHERE line.id = v.id

-- name: line_unmark
-- Lines are as they should be. :lines is a JSON array. Index: primary key.
DELETE FROM line_work WHERE line IN (SELECT value FROM json_each(:lines))

-- name: line_close
-- Forget lines in which nobody is and that owe nothing. :lines is a JSON array. Index: primary key.
DELETE FROM line WHERE id IN (SELECT value FROM json_each(:lines))

-- name: line_call
-- Look again at the lines of a queue whose moment has come. Index: line_due.
INSERT INTO line_work (line)
SELECT id FROM line INDEXED BY line_due WHERE queue = :queue AND due IS NOT NULL AND due <= :now ORDER BY due LIMIT :limit
ON CONFLICT DO NOTHING

-- name: line_taken
-- How many of each line are among entries that are taken, its bucket, and their latest turn. :entries is a JSON array of sequence numbers.
-- Index: primary keys. Sorts no more than these.
SELECT e.line, count(*), l.key, l.full, max(e.rank)
FROM json_each(:entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
CROSS JOIN line AS l ON l.id = e.line
GROUP BY e.line

-- name: line_debit
-- When the buckets of lines are full again. :batch is a JSON array of arrays: line, full. Index: primary key.
UPDATE line SET full = v.full FROM (SELECT value ->> 0 AS id, value ->> 1 AS full FROM jsonb_each(:batch)) AS v WHERE line.id = v.id

-- name: line_unrank
-- Entries have had their turns. :entries is a JSON array of sequence numbers. Index: primary key.
UPDATE entry SET rank = NULL WHERE seq IN (SELECT value FROM json_each(:entries))

-- name: pace_of
-- The bucket and the virtual time of a queue. Index: primary key.
SELECT full, turn FROM pace WHERE queue = :queue

-- name: pace_keep
-- The bucket and the virtual time of a queue from now on. Index: primary key.
INSERT INTO pace (queue, full, turn) VALUES (:queue, :full, :turn)
ON CONFLICT (queue) DO UPDATE SET full = excluded.full, turn = excluded.turn

-- name: lease_name
-- The leases of a queue count what they hold from now on. Reads all leases, of which there are few. Indexes: primary keys.
UPDATE lease SET queue = :queue
WHERE queue IS NULL AND EXISTS (
    SELECT 1 FROM json_each(lease.entries) AS j CROSS JOIN entry AS e ON e.seq = j.value
    WHERE e.token = lease.token AND e.queue = :queue
)

-- name: reline
-- All of a queue is to be looked through. Index: primary key.
INSERT INTO relining (queue, entry, line) VALUES (:queue, 0, 0) ON CONFLICT (queue) DO UPDATE SET entry = 0, line = 0

-- name: relining_of
-- How far a queue has been looked through. Index: primary key.
SELECT entry, line FROM relining WHERE queue = :queue

-- name: relining_queues
-- The queues that are looked through. A small table, read whole.
SELECT queue FROM relining

-- name: relining_entries
-- Of the next entries, up to :last, those of a queue that are not over; and the lines they stand in. What is blocked and in no line waits
-- for something else. Index: the primary key, in order.
SELECT e.seq, e.key, e.name, l.key, l.name FROM entry AS e
LEFT JOIN line AS l ON l.id = e.line
WHERE e.seq > :after AND e.seq <= :last AND e.queue = :queue AND e.finished IS NULL AND (e.state <> 'blocked' OR e.line IS NOT NULL)
ORDER BY e.seq LIMIT :limit

-- name: relining_lines
-- The next lines of a queue. Index: line_queue, in order.
SELECT id FROM line INDEXED BY line_queue WHERE queue = :queue AND id > :after ORDER BY id LIMIT :limit

-- name: relining_keep
-- So far a queue has been looked through. Index: primary key.
UPDATE relining SET entry = :entry, line = :line WHERE queue = :queue

-- name: relining_end
-- All of a queue has been looked through. Index: primary key.
DELETE FROM relining WHERE queue = :queue

-- name: line_mark
-- Lines are to be looked at. :lines is a JSON array. Index: primary key.
INSERT INTO line_work (line) SELECT value FROM json_each(:lines) WHERE true ON CONFLICT DO NOTHING

-- name: line_look
-- Whether there is anything to do for lines and buckets. Without a lock. Indexes: line_idle, bucket_full, small tables; of line_due the first of each
-- queue that has a pace or a rule.
SELECT
    EXISTS (SELECT 1 FROM line_work)
    OR EXISTS (SELECT 1 FROM relining)
    OR EXISTS (SELECT 1 FROM line INDEXED BY line_idle WHERE idle IS NOT NULL AND idle <= :now)
    OR EXISTS (SELECT 1 FROM bucket INDEXED BY bucket_full WHERE full <= :nanos)
    OR EXISTS (
        SELECT 1 FROM binding AS b CROSS JOIN line AS l INDEXED BY line_due
        ON l.queue = b.queue AND l.due IS NOT NULL AND l.due <= :now WHERE b.rules IS NOT NULL
    )

-- name: line_forget
-- Forget lines that have been empty for long enough, a bounded number. Index: line_idle.
DELETE FROM line WHERE id IN (
    SELECT i.id FROM line AS i INDEXED BY line_idle WHERE i.idle IS NOT NULL AND i.idle <= :now ORDER BY i.idle LIMIT :limit
)

-- name: bucket_of
-- When a bucket is full again. Index: primary key.
SELECT full FROM bucket WHERE name = :name

-- name: bucket_keep
-- When a bucket is full again from now on. Index: primary key.
INSERT INTO bucket (name, full) VALUES (:name, :full) ON CONFLICT (name) DO UPDATE SET full = excluded.full

-- name: bucket_forget
-- Forget buckets that are full, a bounded number. Index: bucket_full.
DELETE FROM bucket WHERE name IN (SELECT b.name FROM bucket AS b INDEXED BY bucket_full WHERE b.full <= :nanos ORDER BY b.full LIMIT :limit)
