-- Tell the story of lost leases: the try of each entry ends with its worker. In a write transaction, before lose.
-- :entries is a JSON array of sequence numbers. Indexes: primary key, lease token.
INSERT INTO try (entry, number, worker, started, ended, verdict, error)
SELECT
    e.seq, e.tries + 1, l.worker, coalesce(e.started, :now), :now,
    iif(e.crashes + 1 < :crashes, 'lose', 'bury'),
    iif(e.crashes + 1 < :crashes, NULL, json_object(
        'type', 'Crashed',
        'message', format('the lease was lost %d times: its workers died or were cut off while they had it', e.crashes + 1)
    ))
FROM json_each(:entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
CROSS JOIN lease AS l ON l.token = e.token
