-- Entries whose lease is over, a bounded number. In a write transaction. Index: lease_until, then primary keys.
SELECT e.seq, e.queue, e.token
FROM lease AS l INDEXED BY lease_until
CROSS JOIN json_each(l.entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
WHERE l.until <= :now AND e.token = l.token
ORDER BY l.until LIMIT :limit
