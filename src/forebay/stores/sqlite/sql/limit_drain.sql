-- The latest messages of a queue that were worked off since :since, at most :most of each kind: how many, and the oldest.
-- In a write transaction, for queues that are full. Index: entry_finished, from its end.
SELECT count(*), min(finished) FROM (
    SELECT finished FROM (
        SELECT finished FROM entry INDEXED BY entry_finished
        WHERE queue = :queue AND state = 'succeeded' AND finished IS NOT NULL AND finished > :since
        ORDER BY finished DESC LIMIT :most
    )
    UNION ALL
    SELECT finished FROM (
        SELECT finished FROM entry INDEXED BY entry_finished
        WHERE queue = :queue AND state = 'dead' AND finished IS NOT NULL AND finished > :since
        ORDER BY finished DESC LIMIT :most
    )
)
