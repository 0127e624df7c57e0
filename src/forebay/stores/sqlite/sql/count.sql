-- All queues by state, and since when the oldest ready entry of each is ready. Without a lock. What is blocked would be missing: nothing is.
-- Indexes: entry_ready, entry_timed and entry_finished from end to end, but no row of the table for each.
SELECT queue, 'ready' AS state, count(*) AS n, min(ready_since) AS since
FROM entry INDEXED BY entry_ready WHERE state = 'ready' GROUP BY queue
UNION ALL
SELECT queue, 'scheduled', count(*), NULL
FROM entry INDEXED BY entry_timed WHERE state IN ('scheduled', 'retrying') AND state = 'scheduled' GROUP BY queue
UNION ALL
SELECT queue, 'retrying', count(*), NULL
FROM entry INDEXED BY entry_timed WHERE state IN ('scheduled', 'retrying') AND state = 'retrying' GROUP BY queue
UNION ALL
SELECT e.queue, 'running', count(*), NULL
FROM lease AS l CROSS JOIN json_each(l.entries) AS j CROSS JOIN entry AS e ON e.seq = j.value
WHERE e.token = l.token GROUP BY e.queue
UNION ALL
SELECT queue, state, count(*), NULL
FROM entry INDEXED BY entry_finished WHERE finished IS NOT NULL GROUP BY queue, state
