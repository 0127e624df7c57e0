-- Add a try to the story of each entry that is still under the lease it is settled with. The first statement of a settle:
-- the number of rows says whether all of the batch may take effect. In a write transaction.
-- :batch is a JSON array of arrays: seq, token, event, error. Indexes: primary key, lease token.
INSERT INTO try (entry, number, worker, started, ended, verdict, error)
SELECT e.seq, e.tries + 1, l.worker, e.started, :now, v.value ->> 2, v.value ->> 3
FROM jsonb_each(:batch) AS v
CROSS JOIN entry AS e ON e.seq = v.value ->> 0
CROSS JOIN lease AS l ON l.token = e.token
WHERE e.token = v.value ->> 1
