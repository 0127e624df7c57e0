-- How much waits in a queue, counted no further than :most in each of two ranges. In a write transaction. (Nothing is ever blocked.)
-- Indexes: entry_ready, entry_timed; rows of the table are not read.
SELECT
    (
        SELECT count(*) FROM (SELECT 1 FROM entry INDEXED BY entry_ready WHERE queue = :queue AND state = 'ready' LIMIT :most)
    ) + (
        SELECT count(*) FROM (
            SELECT 1 FROM entry INDEXED BY entry_timed WHERE queue = :queue AND state IN ('scheduled', 'retrying') LIMIT :most
        )
    )
