-- Which of a batch of entries were passed over as duplicates, and who stands in their way. In the transaction that stored the others.
-- :batch as in publish_entries. Indexes: primary key, entry_id, entry_unique.
SELECT
    v.value ->> 0,
    coalesce(
        (SELECT e.id FROM entry AS e WHERE e.id = v.value ->> 2 AND e.seq < v.value ->> 0),
        (SELECT e.id FROM entry AS e WHERE e.queue = v.value ->> 3 AND e.unique_key = v.value ->> 10 AND e.seq < v.value ->> 0)
    )
FROM jsonb_each(:batch) AS v
WHERE NOT EXISTS (SELECT 1 FROM entry AS e WHERE e.seq = v.value ->> 0)
