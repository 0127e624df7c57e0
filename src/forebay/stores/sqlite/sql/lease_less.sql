-- Fewer entries under some leases. In a write transaction. :batch is a JSON array of arrays: token, how many. Index: lease token.
UPDATE lease SET held = held - v.n
FROM (SELECT value ->> 0 AS token, value ->> 1 AS n FROM jsonb_each(:batch)) AS v
WHERE lease.token = v.token
