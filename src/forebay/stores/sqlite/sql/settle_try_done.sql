-- As settle_try, for those that succeeded under one lease. In a write transaction.
-- :entries is a JSON array of sequence numbers. Indexes: primary key; lease token once.
INSERT INTO try (entry, number, worker, started, ended, verdict)
SELECT e.seq, e.tries + 1, (SELECT l.worker FROM lease AS l WHERE l.token = :token), e.started, :now, 'done'
FROM json_each(:entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
WHERE e.token = :token
