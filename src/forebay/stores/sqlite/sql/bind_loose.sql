-- Declare limits of queues, and leave what feeds them as it is. In a write transaction. :batch as in bind.
INSERT INTO binding (queue, most, drops)
SELECT value ->> 0, value ->> 3, value ->> 4 FROM jsonb_each(:batch) WHERE value ->> 5
ON CONFLICT (queue) DO UPDATE SET most = excluded.most, drops = excluded.drops
