-- Taking work: look, make ready what is due, end what is late, read the front and put it under a lease; and putting it back.
-- Locks: `claim_look` runs without one first; all else in one write transaction. Indexes: entry_ready, entry_timed, entry_late_here in their own
-- orders, and entry_nameless in its; lease token; nothing is sorted but what one lease holds.

-- name: piece_place
-- What a delivery tells of its entry `e`, but for the moment it was started: before that of its message.
e.seq, e.id, e.created, e.expires, e.deadline, e.attempts, e.crashes, e.releases, e.unknown_since

-- name: piece_message
-- What it tells of its message `m`, in the order in which `rows.message` reads it.
m.id, m.name, m.queue, m.topic, m.body, m.content_type, m.headers, m.key, m.priority, m.max_attempts, m.timeout,
    m.unique_key, m.moments

-- name: claim_look
-- What a receive would find: its token in use, its queue paused, something ready, something expired, the next moment something is due; and
-- the mark of the rules as they are.
-- Without a lock, so that an idle receive writes nothing. What is ready may have expired too: then there is something expired.
-- Indexes: lease token, paused, entry_ready, entry_late_here, entry_timed; one row of each.
SELECT
    EXISTS (SELECT 1 FROM lease WHERE token = :token),
    EXISTS (SELECT 1 FROM paused WHERE queue = :queue),
    EXISTS (SELECT 1 FROM entry INDEXED BY entry_ready WHERE queue = :queue AND state = 'ready'),
    EXISTS (
        SELECT 1 FROM entry INDEXED BY entry_late_here
        WHERE queue = :queue AND state = 'ready' AND expires <= :now AND state IN ('scheduled', 'blocked', 'ready', 'retrying')
    ),
    (
        SELECT due FROM entry INDEXED BY entry_timed
        WHERE queue = :queue AND state IN ('scheduled', 'retrying')
        ORDER BY due LIMIT 1
    ),
    (SELECT limits FROM forgotten)

-- name: claim_known
-- Whether something was put off because a worker did not know its name, though the caller does. Without a lock, and only for a caller that says
-- what it knows. :names is a JSON array. Index: entry_nameless, one search for each name.
SELECT EXISTS (
    SELECT 1 FROM json_each(:names) AS n
    CROSS JOIN entry AS e INDEXED BY entry_nameless ON e.queue = :queue AND e.name = n.value
    WHERE e.unknown_since IS NOT NULL AND e.state = 'scheduled' AND (e.expires IS NULL OR e.expires > :now)
)

-- name: claim_promote
-- Make ready what is due, the longest due first, a bounded number. In a write transaction. Index: entry_timed.
UPDATE entry SET state = 'ready', ready_since = due
WHERE seq IN (
    SELECT seq FROM entry INDEXED BY entry_timed
    WHERE queue = :queue AND state IN ('scheduled', 'retrying') AND due <= :now
    ORDER BY due LIMIT :limit
)

-- name: claim_expire
-- End what is ready and was not started in time, a bounded number. In a write transaction. Index: entry_late_here.
UPDATE entry SET state = 'expired', finished = :now, unique_key = NULL
WHERE seq IN (
    SELECT seq FROM entry INDEXED BY entry_late_here
    WHERE queue = :queue AND state = 'ready' AND expires <= :now AND state IN ('scheduled', 'blocked', 'ready', 'retrying')
    LIMIT :limit
)

-- name: claim_front
-- The front of a queue with its messages: higher priority first, then first come. In a write transaction.
-- Index: entry_ready in its own order, then primary keys; no sort. A paused queue has no front.
SELECT {piece_place}, :now AS started, {piece_message}
FROM entry AS e INDEXED BY entry_ready
CROSS JOIN message AS m ON m.seq = e.message
WHERE e.queue = :queue AND e.state = 'ready' AND (e.expires IS NULL OR e.expires > :now)
    AND NOT EXISTS (SELECT 1 FROM paused AS p WHERE p.queue = :queue)
ORDER BY e.priority DESC, e.seq LIMIT :limit

-- name: claim_put_off
-- As `claim_front`, of what was put off because a worker did not know its name though the caller does: it is as good as ready. In no order.
-- :names is a JSON array. Index: entry_nameless, then primary keys. Sorts the places of no more than :limit for each name that is put off.
SELECT {piece_place}, :now AS started, {piece_message}
FROM entry AS e
CROSS JOIN message AS m ON m.seq = e.message
WHERE e.seq IN (
        SELECT f.seq FROM json_each(:names) AS n
        CROSS JOIN entry AS f ON f.seq IN (
            SELECT p.seq FROM entry AS p INDEXED BY entry_nameless
            WHERE p.queue = :queue AND p.name = n.value AND p.unknown_since IS NOT NULL AND p.state = 'scheduled'
                AND (p.expires IS NULL OR p.expires > :now)
            ORDER BY p.priority DESC, p.seq LIMIT :limit
        )
        ORDER BY f.priority DESC, f.seq LIMIT :limit
    )
    AND NOT EXISTS (SELECT 1 FROM paused AS p WHERE p.queue = :queue)

-- name: claim_company
-- As `claim_front`, of what has gathered with some entries that are to be taken, behind the number of that: what has not failed yet, and waits,
-- if only for its turn in line.
-- :entries is a JSON array of sequence numbers. In its order, and in that of the numbers: that of the loops, which a sort would not bound.
-- Indexes: primary keys.
SELECT c.head, {piece_place}, :now AS started, {piece_message}
FROM json_each(:entries) AS j
CROSS JOIN company AS c ON c.head = j.value
CROSS JOIN entry AS e ON e.seq = c.entry
CROSS JOIN message AS m ON m.seq = e.message
WHERE (e.state IN ('scheduled', 'ready') OR (e.state = 'blocked' AND e.line IS NOT NULL)) AND e.attempts = 0 AND (e.expires IS NULL OR e.expires > :now)
LIMIT :limit

-- name: claim_tell_known
-- Keep that somebody knows the names of what was put off. In a write transaction. Index: entry_nameless, then the primary key.
INSERT INTO known (queue, name, at)
SELECT :queue, n.value, :now FROM json_each(:names) AS n
WHERE EXISTS (
    SELECT 1 FROM entry AS e INDEXED BY entry_nameless
    WHERE e.queue = :queue AND e.name = n.value AND e.unknown_since IS NOT NULL AND e.state = 'scheduled'
        AND (e.expires IS NULL OR e.expires > :now)
)
ON CONFLICT DO UPDATE SET at = excluded.at

-- name: claim_date
-- Forget since when nobody knew the names of some entries, if somebody has known them since; which. In a write transaction.
-- :entries is a JSON array of sequence numbers. Indexes: primary keys.
UPDATE entry SET unknown_since = NULL
WHERE seq IN (SELECT value FROM json_each(:entries))
    AND unknown_since <= (SELECT k.at FROM known AS k WHERE k.queue = entry.queue AND k.name = entry.name)
RETURNING seq

-- name: claim_lease
-- Write the lease itself: one row, whatever it took. In the claim's transaction, after claim_held said that the token is not in use.
INSERT INTO lease (token, worker, until, held, entries, queue) VALUES (:token, :worker, :until, :held, :entries, :queue)

-- name: claim_take
-- Put entries under a lease. In the transaction that read the front. :entries is a JSON array of sequence numbers. Index: primary key.
UPDATE entry SET state = 'running', token = :token, started = :now
WHERE seq IN (SELECT value FROM json_each(:entries))

-- name: claim_held
-- What is still under some tokens, each in the order in which it was handed out. :tokens is a JSON array.
-- Index: lease token, then primary keys. Sorts what these leases hold.
SELECT l.token, {piece_place}, e.started, {piece_message}
FROM json_each(:tokens) AS t
CROSS JOIN lease AS l ON l.token = t.value
CROSS JOIN json_each(l.entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
CROSS JOIN message AS m ON m.seq = e.message
WHERE e.token = l.token
ORDER BY e.priority DESC, e.seq

-- name: claim_undo
-- Put back what a receive took that nobody waits for any more, as if it had not been taken: what was put off because its name was not known
-- waits on. In a write transaction.
-- Index: lease token, then primary keys.
UPDATE entry SET
    state = CASE
        WHEN cancel_requested THEN 'cancelled'
        WHEN unknown_since IS NOT NULL AND due > :now THEN 'scheduled'
        ELSE 'ready'
    END,
    finished = iif(cancel_requested, :now, NULL),
    unique_key = iif(cancel_requested, NULL, unique_key),
    token = NULL,
    started = (SELECT t.started FROM try AS t WHERE t.entry = entry.seq ORDER BY t.number DESC LIMIT 1)
WHERE token = :token AND seq IN (SELECT j.value FROM lease AS l CROSS JOIN json_each(l.entries) AS j WHERE l.token = :token)

-- name: lease_drop
-- End a lease. In a write transaction. Index: lease token.
DELETE FROM lease WHERE token = :token
