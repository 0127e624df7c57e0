-- The finished of one state, oldest first: those past :before, and as many more as are over the cap. In a write transaction.
-- Index: entry_finished in its own order.
SELECT seq FROM entry INDEXED BY entry_finished
WHERE state = :state AND finished <= :before
ORDER BY finished, seq LIMIT :limit
