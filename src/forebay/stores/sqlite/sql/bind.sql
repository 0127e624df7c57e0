-- Declare queues. In a write transaction.
-- :batch is a JSON array of arrays: queue, pattern, group, limit, whether it drops what has expired, whether what feeds it stays.
INSERT INTO binding (queue, pattern, grp, most, drops)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM jsonb_each(:batch) WHERE NOT value ->> 5
ON CONFLICT (queue) DO UPDATE SET pattern = excluded.pattern, grp = excluded.grp, most = excluded.most, drops = excluded.drops
