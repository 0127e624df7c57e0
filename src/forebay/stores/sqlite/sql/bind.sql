-- Declare queues. In a write transaction. :batch is a JSON array of arrays: queue, pattern, group.
INSERT INTO binding (queue, pattern, grp)
SELECT value ->> 0, value ->> 1, value ->> 2 FROM jsonb_each(:batch) WHERE true
ON CONFLICT (queue) DO UPDATE SET pattern = excluded.pattern, grp = excluded.grp
