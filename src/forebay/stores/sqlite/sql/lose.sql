-- Take back entries whose lease is lost: ready again, dead after too many losses, cancelled if they were asked to stop.
-- In a write transaction, after lose_try. :entries is a JSON array of sequence numbers. Index: primary key.
UPDATE entry SET
    state = CASE WHEN crashes + 1 >= :crashes THEN 'dead' WHEN cancel_requested THEN 'cancelled' ELSE 'ready' END,
    reason = iif(crashes + 1 >= :crashes, 'crashed', reason),
    finished = iif(crashes + 1 >= :crashes OR cancel_requested, :now, NULL),
    unique_key = iif(crashes + 1 >= :crashes OR cancel_requested, NULL, unique_key),
    ready_since = :now,
    crashes = crashes + 1,
    tries = tries + 1,
    token = NULL
WHERE seq IN (SELECT value FROM json_each(:entries))
