-- Unique keys that are held in ways of their own: who has one, and what becomes of a holder that waits when another comes.
-- Locks: in the write transaction of a publish or a command. Indexes: primary keys, entry_id, entry_unique, hold_entry, hold_until.

-- name: piece_held
-- Whether h, the row of a key, holds it still, with e the entry of its holder. One that waits to go on with steps that are kept runs; one that
-- stands in line is as good as ready.
(h.until IS NULL OR h.until > :now) AND CASE
    WHEN e.seq IS NULL THEN h.until IS NOT NULL
    WHEN (e.state IN ('scheduled', 'ready', 'retrying') OR (e.state = 'blocked' AND e.line IS NOT NULL))
        AND EXISTS (SELECT 1 FROM step AS s WHERE s.entry = e.seq)
    THEN instr(h.states, 'running')
    ELSE instr(h.states, iif(e.state = 'blocked' AND e.line IS NOT NULL, 'ready', e.state))
END

-- name: hold_before
-- The entry of this id, or the one that the message of this id has changed: what a repeated publish is answered.
-- Indexes: entry_id; primary key.
SELECT e.id FROM entry AS e WHERE e.id = :id
UNION ALL
SELECT h.id FROM hold AS h WHERE h.queue = :queue AND h.key = :key AND h.last = :id
LIMIT 1

-- name: hold_holder
-- Who has a key: entry, id, state (NULL: forgotten), whether it has steps that are kept, its message's name, key and moments, when it was stored, since when the series runs,
-- how many have gathered (NULL: it is joined by none). The entry :but does not count. Indexes: entry_unique; primary keys.
SELECT e.seq, e.id, iif(e.state = 'blocked' AND e.line IS NOT NULL, 'ready', e.state), EXISTS (SELECT 1 FROM step AS s WHERE s.entry = e.seq) AS begun, e.name, e.key, m.moments, e.created, e.created AS since, NULL AS gathered
FROM entry AS e CROSS JOIN message AS m ON m.seq = e.message
WHERE e.queue = :queue AND e.unique_key = :key AND e.seq <> :but
UNION ALL
SELECT h.entry, h.id, iif(e.state = 'blocked' AND e.line IS NOT NULL, 'ready', e.state), EXISTS (SELECT 1 FROM step AS s WHERE s.entry = e.seq), e.name, e.key, m.moments, e.created, h.since, h.gathered
FROM hold AS h LEFT JOIN entry AS e ON e.seq = h.entry LEFT JOIN message AS m ON m.seq = e.message
WHERE h.queue = :queue AND h.key = :key AND h.entry <> :but AND {piece_held}
LIMIT 1

-- name: hold_others
-- Which of some keys have a row here, and whether they are held by it. :batch is a JSON array of arrays: queue, key. Index: primary key.
SELECT h.queue, h.key, {piece_held}
FROM jsonb_each(:batch) AS v
CROSS JOIN hold AS h ON h.queue = v.value ->> 0 AND h.key = v.value ->> 1
LEFT JOIN entry AS e ON e.seq = h.entry

-- name: hold_supersede
-- Forget former holders of keys that are held plainly now. :batch as in hold_others. Indexes: primary key, entry_unique.
DELETE FROM hold WHERE (queue, key) IN (SELECT value ->> 0, value ->> 1 FROM jsonb_each(:batch))
    AND EXISTS (SELECT 1 FROM entry AS e WHERE e.queue = hold.queue AND e.unique_key = hold.key)

-- name: hold_close
-- Nobody joins the holder of a key any more. Index: primary key.
DELETE FROM hold WHERE queue = :queue AND key = :key

-- name: hold_take
-- Give a key to an entry. Index: primary key.
INSERT OR REPLACE INTO hold (queue, key, entry, id, states, until, since, last, gathered)
VALUES (:queue, :key, :entry, :id, :states, :until, :since, :last, :gathered)

-- name: hold_join
-- One more has joined the holder of a key. Index: primary key.
UPDATE hold SET gathered = gathered + 1 WHERE queue = :queue AND key = :key

-- name: company_join
-- What has joined an entry. Index: primary key.
INSERT INTO company (head, entry) VALUES (:head, :entry)

-- name: hold_change
-- Remember who changed the holder of a key; one that holds it plainly has a row for that alone. Index: primary key.
INSERT INTO hold (queue, key, entry, id, states, since, last) VALUES (:queue, :key, :entry, :id, :states, :since, :last)
ON CONFLICT DO UPDATE SET last = excluded.last

-- name: hold_replace
-- A message that waits becomes another. Its queue, name and key are the same, and it is the only copy. Run once: bound as they are, bodies
-- of any content need no escape. Index: primary key.
UPDATE message SET
    body = :body, content_type = :content_type, headers = :headers, priority = :priority, max_attempts = :max_attempts,
    timeout = :timeout, moments = :moments
WHERE seq = (SELECT e.message FROM entry AS e WHERE e.seq = :entry)

-- name: hold_renew
-- The place of a message that has become another: it begins anew, with its history. After hold_replace. Index: primary key.
UPDATE entry SET
    priority = :priority, expires = :expires, deadline = :deadline, attempts = 0, crashes = 0, releases = 0, reason = NULL,
    unknown_since = NULL, unique_key = NULL
WHERE seq = :entry

-- name: hold_renew_failure
-- It has not failed of anything yet. After hold_renew. Index: primary key.
DELETE FROM failure WHERE entry = :entry

-- name: hold_postpone
-- Another time for what waits. Index: primary key.
UPDATE entry SET
    state = iif(:due > :now, 'scheduled', 'ready'),
    ready_since = iif(:due > :now OR state = 'ready', ready_since, :now),
    due = :due
WHERE seq = :entry

-- name: hold_sweep
-- Drop windows that are over, a bounded number. In a write transaction. Index: hold_until.
DELETE FROM hold WHERE (queue, key) IN (
    SELECT queue, key FROM hold INDEXED BY hold_until WHERE until IS NOT NULL AND until <= :now ORDER BY until LIMIT :limit
)

-- name: hold_let_go
-- Forget holders that a person deletes, whatever their windows. Before they are forgotten. Index: hold_entry.
-- :entries is a JSON array of sequence numbers.
DELETE FROM hold WHERE entry IN (SELECT value FROM json_each(:entries))

-- name: redrive_keyed
-- Those of some entries that want a unique key when they are redriven, oldest first. :entries is a JSON array of sequence numbers.
-- Index: primary keys.
SELECT e.seq, e.id, e.queue, m.unique_key, m.moments
FROM json_each(:entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
CROSS JOIN message AS m ON m.seq = e.message
WHERE m.unique_key IS NOT NULL
ORDER BY e.seq
