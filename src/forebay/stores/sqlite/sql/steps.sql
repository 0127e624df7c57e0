-- Durable steps of running handlers.
-- Locks: steps_of runs without one, all else in a write transaction. Indexes: primary key of entry, entry_id, step_name.

-- name: steps_fence
-- The number of the try that runs under a lease; no row if the entry is not under it. In a write transaction. Index: primary key.
SELECT e.tries + 1 FROM entry AS e WHERE e.seq = :entry AND e.token = :token

-- name: steps_save
-- Keep a step; what is there by its name stays as it is. After steps_fence, in its transaction. Run once for each of a batch.
-- Index: step_name refuses.
INSERT INTO step (entry, name, position, kind, try, at, took, due, topic, key, body, content_type)
VALUES (:entry, :name, :position, :kind, :try, :at, :took, :due, :topic, :key, :body, :content_type)
ON CONFLICT DO NOTHING

-- name: steps_of
-- The steps of an entry, in the order in which they were saved: sorts them. Without a lock. Indexes: entry_id, step_name.
SELECT s.name, s.position, s.kind, s.try, s.at, s.took, s.due, s.topic, s.key, s.met, s.body, s.content_type
FROM entry AS e INDEXED BY entry_id
CROSS JOIN step AS s ON s.entry = e.seq
WHERE e.id = :id ORDER BY s.number
