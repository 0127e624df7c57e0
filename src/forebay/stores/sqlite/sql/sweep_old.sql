-- The finished of one queue and state until :before, oldest first. In a write transaction. Index: entry_finished in its own order.
SELECT finished, seq FROM entry INDEXED BY entry_finished
WHERE queue = :queue AND state = :state AND finished <= :before
ORDER BY finished, seq LIMIT :limit
