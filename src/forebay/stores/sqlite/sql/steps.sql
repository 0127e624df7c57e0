-- Durable steps of running handlers, and the events they wait for.
-- Locks: steps_of and steps_waits run without one, all else in a write transaction, bounded. Indexes: primary keys, entry_id, step_name, step_wait.

-- name: steps_fence
-- The number of the try that runs under a lease; no row if the entry is not under it. In a write transaction. Index: primary key.
SELECT e.tries + 1 FROM entry AS e WHERE e.seq = :entry AND e.token = :token

-- name: steps_save
-- Keep a step; what is there by its name stays as it is. After steps_fence, in its transaction. Run once for each of a batch.
-- Index: step_name refuses.
INSERT INTO step (entry, name, position, kind, try, at, took, due, topic, key, body, content_type)
VALUES (:entry, :name, :position, :kind, :try, :at, :took, :due, :topic, :key, :body, :content_type)
ON CONFLICT DO NOTHING

-- name: steps_of
-- The steps of an entry, in the order in which they were saved: sorts them. Without a lock. Indexes: entry_id, step_name.
SELECT s.name, s.position, s.kind, s.try, s.at, s.took, s.due, s.topic, s.key, s.met, s.body, s.content_type
FROM entry AS e INDEXED BY entry_id
CROSS JOIN step AS s ON s.entry = e.seq
WHERE e.id = :id ORDER BY s.number

-- name: steps_waits
-- The sleeps, and the events that have not come, of the entries among some that wait. Without a lock.
-- :entries is a JSON array of sequence numbers. Indexes: primary key, step_name.
SELECT s.entry, s.name, s.kind, iif(e.state = 'blocked', coalesce(e.expires, s.due), s.due), s.topic, s.key
FROM json_each(:entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
CROSS JOIN step AS s ON s.entry = e.seq
WHERE ((e.state = 'scheduled' AND e.due > :now) OR e.state = 'blocked') AND s.met IS NULL AND s.due > :now

-- name: event_awaited
-- Whether anybody waits for an event, and whether one that came before is still being worked off. In a write transaction.
-- Indexes: step_wait and the primary key of arrival, one row of each.
SELECT
    EXISTS (SELECT 1 FROM step INDEXED BY step_wait WHERE topic IS NOT NULL AND met IS NULL),
    EXISTS (SELECT 1 FROM arrival)

-- name: event_meet
-- Keep an event for those that wait for it, a bounded number; whose they are. What was waited for until now stays unmet for ever.
-- In a write transaction. Indexes: step_wait twice, then primary keys.
UPDATE step SET
    met = :now, body = :body, content_type = :content_type,
    met_by = (SELECT e.tries + 1 FROM entry AS e WHERE e.seq = step.entry AND e.state = 'running')
WHERE number IN (
    SELECT number FROM (
        SELECT s.number FROM step AS s INDEXED BY step_wait
        WHERE s.topic = :topic AND s.key = :key AND s.due > :now AND s.met IS NULL AND s.number <= :last
        UNION ALL
        SELECT s.number FROM step AS s INDEXED BY step_wait
        WHERE s.topic = :topic AND s.key IS NULL AND s.due > :now AND s.met IS NULL AND s.number <= :last
    ) LIMIT :limit
)
RETURNING entry

-- name: event_wake
-- Make due what is put off and has met its event; the queues. After event_meet. :entries is a JSON array of sequence numbers.
-- Index: primary key; moves in entry_timed.
UPDATE entry SET due = :now
WHERE seq IN (SELECT value FROM json_each(:entries)) AND state = 'scheduled' AND due > :now
RETURNING queue

-- name: event_settle
-- Make due what was put off for an event that came while it ran; the queues. After settle_effects, for those that wait alone.
-- :entries is a JSON array of sequence numbers. Indexes: primary key, step_name.
UPDATE entry SET due = :now
WHERE seq IN (SELECT value FROM json_each(:entries)) AND state = 'scheduled' AND due > :now
    AND EXISTS (SELECT 1 FROM step AS s WHERE s.entry = entry.seq AND s.met_by = entry.tries)

-- name: event_steps
-- Those of some entries that are steps of flows, wait for an event and have it. In a write transaction, after event_meet or flow_released.
-- :entries is a JSON array of sequence numbers. Indexes: primary keys, step_name.
SELECT e.seq, s.body, s.content_type
FROM json_each(:entries) AS j
CROSS JOIN flow_step AS f ON f.entry = j.value
CROSS JOIN entry AS e ON e.seq = f.entry
CROSS JOIN step AS s ON s.entry = e.seq
WHERE f.role = 'event' AND f.released = 1 AND e.state = 'blocked' AND (e.expires IS NULL OR e.expires > :now) AND s.met IS NOT NULL

-- name: arrival_keep
-- Keep an event for those that wait for it and are still to be woken, if there are any. In a write transaction.
-- Indexes: step_wait, one row; the last row of step.
INSERT INTO arrival (topic, key, body, content_type, last)
SELECT :topic, :key, :body, :content_type, (SELECT max(number) FROM step)
WHERE
    EXISTS (SELECT 1 FROM step INDEXED BY step_wait WHERE topic = :topic AND key = :key AND due > :now AND met IS NULL)
    OR EXISTS (SELECT 1 FROM step INDEXED BY step_wait WHERE topic = :topic AND key IS NULL AND due > :now AND met IS NULL)

-- name: arrival_next
-- The event to work off next. In a write transaction. Index: the first row of the primary key.
SELECT number, topic, key, body, content_type, last FROM arrival ORDER BY number LIMIT 1

-- name: arrival_forget
-- All who waited for an event have it. In a write transaction. Index: primary key.
DELETE FROM arrival WHERE number = :number
