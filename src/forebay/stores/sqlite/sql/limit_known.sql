-- Which of some places are taken already: by their id, by their unique key. In a write transaction, for queues that are full.
-- :batch is a JSON array of arrays: id, queue, unique key. Indexes: entry_id, entry_unique.
SELECT
    v.key,
    EXISTS (SELECT 1 FROM entry AS e WHERE e.id = v.value ->> 0),
    EXISTS (SELECT 1 FROM entry AS e WHERE e.queue = v.value ->> 1 AND e.unique_key = v.value ->> 2)
FROM jsonb_each(:batch) AS v
