-- What is still under a token, in the order in which it was handed out. Index: lease token, then primary keys. Sorts at most one lease.
SELECT
    e.seq, e.id, e.created, e.expires, e.deadline, e.attempts, e.crashes, e.releases, e.unknown_since, e.started,
    m.id, m.name, m.queue, m.topic, m.body, m.content_type, m.headers, m.key, m.priority, m.max_attempts, m.timeout,
    m.unique_key, m.moments
FROM lease AS l
CROSS JOIN json_each(l.entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
CROSS JOIN message AS m ON m.seq = e.message
WHERE l.token = :token AND e.token = :token
ORDER BY e.priority DESC, e.seq
