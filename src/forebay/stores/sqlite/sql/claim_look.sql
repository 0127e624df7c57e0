-- What a receive would find: its token in use, its queue paused, something ready, something expired, the next moment something is due.
-- Runs without a lock first, so that an idle receive writes nothing, and again in the claim's transaction.
-- Indexes: lease token, paused, entry_ready, entry_late, entry_timed; one row of each.
SELECT
    EXISTS (SELECT 1 FROM lease WHERE token = :token),
    EXISTS (SELECT 1 FROM paused WHERE queue = :queue),
    EXISTS (
        SELECT 1 FROM entry INDEXED BY entry_ready
        WHERE queue = :queue AND state = 'ready' AND (expires IS NULL OR expires > :now)
    ),
    EXISTS (
        SELECT 1 FROM entry INDEXED BY entry_late
        WHERE expires <= :now AND state IN ('scheduled', 'blocked', 'ready', 'retrying') AND state = 'ready' AND queue = :queue
    ),
    (
        SELECT due FROM entry INDEXED BY entry_timed
        WHERE queue = :queue AND state IN ('scheduled', 'retrying')
        ORDER BY due LIMIT 1
    )
