-- The front of a queue with its messages: higher priority first, then first come. In a write transaction.
-- Index: entry_ready in its own order, then primary keys; no sort. A paused queue has no front.
SELECT
    e.seq, e.id, e.created, e.expires, e.deadline, e.attempts, e.crashes, e.releases, e.unknown_since, :now AS started,
    m.id, m.name, m.queue, m.topic, m.body, m.content_type, m.headers, m.key, m.priority, m.max_attempts, m.timeout,
    m.unique_key, m.moments
FROM entry AS e INDEXED BY entry_ready
CROSS JOIN message AS m ON m.seq = e.message
WHERE e.queue = :queue AND e.state = 'ready' AND (e.expires IS NULL OR e.expires > :now)
    AND NOT EXISTS (SELECT 1 FROM paused AS p WHERE p.queue = :queue)
ORDER BY e.priority DESC, e.seq LIMIT :limit
