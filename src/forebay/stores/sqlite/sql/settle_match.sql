-- How each of a batch stands: 1 if it is under the lease it is settled with, 0 if that lease has settled it before; no row if stale.
-- Between settle_try and the updates. :batch is a JSON array of arrays: seq, token. Index: primary key.
SELECT v.key, e.token IS v.value ->> 1
FROM jsonb_each(:batch) AS v
CROSS JOIN entry AS e ON e.seq = v.value ->> 0
WHERE e.token IS v.value ->> 1 OR e.settled_by IS v.value ->> 1
