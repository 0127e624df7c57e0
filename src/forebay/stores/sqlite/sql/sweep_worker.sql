-- Entries under the leases of one worker. In a write transaction. Reads all leases, of which there are few.
SELECT e.seq, e.queue, e.token
FROM lease AS l
CROSS JOIN json_each(l.entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
WHERE l.worker = :worker AND e.token = l.token
