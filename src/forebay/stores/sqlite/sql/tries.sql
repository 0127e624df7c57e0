-- The stories of some entries, the last :keep tries of each. Without a lock. :entries is a JSON array of sequence numbers.
-- Index: primary keys, in order for each entry.
SELECT t.entry, t.number, t.worker, t.started, t.ended, t.verdict, t.error
FROM json_each(:entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
CROSS JOIN try AS t ON t.entry = e.seq AND t.number > e.tries - :keep
