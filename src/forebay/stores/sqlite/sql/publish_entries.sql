-- Give each message its place in a queue; an id or a unique key that is there already is passed over. In a write transaction.
-- :batch is a JSON array of arrays: seq, message, id, queue, state, priority, due, expires, deadline, ready since, unique key.
-- Indexes: entry_id and entry_unique refuse duplicates.
INSERT INTO entry (seq, message, id, queue, state, priority, due, expires, deadline, ready_since, unique_key, created)
SELECT
    value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8,
    value ->> 9, value ->> 10, :now
FROM jsonb_each(:batch)
WHERE true
ON CONFLICT DO NOTHING
