-- Put back what a receive took that nobody waits for any more, as if it had not been taken. In a write transaction.
-- Index: lease token, then primary keys.
UPDATE entry SET
    state = iif(cancel_requested, 'cancelled', 'ready'),
    finished = iif(cancel_requested, :now, NULL),
    unique_key = iif(cancel_requested, NULL, unique_key),
    token = NULL,
    started = (SELECT t.started FROM try AS t WHERE t.entry = entry.seq ORDER BY t.number DESC LIMIT 1)
WHERE token = :token AND seq IN (SELECT j.value FROM lease AS l CROSS JOIN json_each(l.entries) AS j WHERE l.token = :token)
