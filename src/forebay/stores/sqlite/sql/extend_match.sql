-- Which deliveries are still under their lease, and whether they were asked to stop. In a write transaction.
-- :batch is a JSON array of arrays: seq, token. Index: primary key.
SELECT v.key, e.cancel_requested
FROM jsonb_each(:batch) AS v
CROSS JOIN entry AS e ON e.seq = v.value ->> 0
WHERE e.token = v.value ->> 1
