-- Who is let into queues with a limit: how much waits, what is there already, how fast it is worked off.
-- Locks: in the write transaction of a publish, before anything is written. Indexes: entry_ready, entry_timed, entry_late_here, entry_finished,
-- entry_id, entry_unique; each read is bounded.

-- name: limit_count
-- How much waits in a queue, counted no further than :most in each of four ranges. In a write transaction.
-- Indexes: entry_ready, entry_timed, entry_blocked, entry_waits; rows of the table are not read.
SELECT
    (
        SELECT count(*) FROM (SELECT 1 FROM entry INDEXED BY entry_ready WHERE queue = :queue AND state = 'ready' LIMIT :most)
    ) + (
        SELECT count(*) FROM (
            SELECT 1 FROM entry INDEXED BY entry_timed WHERE queue = :queue AND state IN ('scheduled', 'retrying') LIMIT :most
        )
    ) + (
        SELECT count(*) FROM (
            SELECT 1 FROM entry INDEXED BY entry_blocked WHERE queue = :queue AND flow <> 0 AND state = 'blocked' LIMIT :most
        )
    ) + (
        SELECT count(*) FROM (
            SELECT 1 FROM entry INDEXED BY entry_waits WHERE queue = :queue AND line IS NOT NULL AND state = 'blocked' AND flow = 0 LIMIT :most
        )
    )

-- name: limit_known
-- Which of some places are taken already: by their id, by their unique key. In a write transaction, for queues that are full.
-- :batch is a JSON array of arrays: id, queue, unique key. Indexes: entry_id, entry_unique, primary keys.
SELECT
    v.key,
    EXISTS (SELECT 1 FROM entry AS e WHERE e.id = v.value ->> 0),
    EXISTS (SELECT 1 FROM entry AS e WHERE e.queue = v.value ->> 1 AND e.unique_key = v.value ->> 2)
    OR EXISTS (
        SELECT 1 FROM hold AS h LEFT JOIN entry AS e ON e.seq = h.entry
        WHERE h.queue = v.value ->> 1 AND h.key = v.value ->> 2 AND (h.last = v.value ->> 0 OR ({piece_held}))
    )
FROM jsonb_each(:batch) AS v

-- name: limit_drain
-- The latest messages of a queue that were worked off since :since, at most :most of each kind: how many, and the oldest.
-- In a write transaction, for queues that are full. Indexes: entry_finished, entry_over, from their ends.
SELECT count(*), min(finished) FROM (
    SELECT finished FROM (
        SELECT finished FROM entry INDEXED BY entry_finished
        WHERE queue = :queue AND state = 'succeeded' AND finished IS NOT NULL AND flow = 0 AND finished > :since
        ORDER BY finished DESC LIMIT :most
    )
    UNION ALL
    SELECT finished FROM (
        SELECT finished FROM entry INDEXED BY entry_over
        WHERE queue = :queue AND state = 'succeeded' AND finished IS NOT NULL AND flow <> 0 AND finished > :since
        ORDER BY finished DESC LIMIT :most
    )
    UNION ALL
    SELECT finished FROM (
        SELECT finished FROM entry INDEXED BY entry_finished
        WHERE queue = :queue AND state = 'dead' AND finished IS NOT NULL AND flow = 0 AND finished > :since
        ORDER BY finished DESC LIMIT :most
    )
    UNION ALL
    SELECT finished FROM (
        SELECT finished FROM entry INDEXED BY entry_over
        WHERE queue = :queue AND state = 'dead' AND finished IS NOT NULL AND flow <> 0 AND finished > :since
        ORDER BY finished DESC LIMIT :most
    )
)

-- name: limit_expire
-- End what waits in a full queue and was not started in time, a bounded number. In a write transaction. Index: entry_late_here.
UPDATE entry SET state = 'expired', finished = :now, unique_key = NULL
WHERE seq IN (
    SELECT seq FROM entry INDEXED BY entry_late_here
    WHERE queue = :queue AND state IN ('scheduled', 'blocked', 'ready', 'retrying') AND expires <= :now
    LIMIT :limit
)
