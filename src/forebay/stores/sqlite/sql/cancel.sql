-- Cancel what waits, and ask what runs to stop. In a write transaction. :entries is a JSON array of sequence numbers.
-- Index: primary key.
UPDATE entry SET
    state = iif(state = 'running', state, 'cancelled'),
    finished = iif(state = 'running', NULL, :now),
    unique_key = iif(state = 'running', unique_key, NULL),
    cancel_requested = iif(state = 'running', 1, cancel_requested)
WHERE seq IN (SELECT value FROM json_each(:entries))
    AND (state IN ('scheduled', 'blocked', 'ready', 'retrying') OR (state = 'running' AND NOT cancel_requested))
