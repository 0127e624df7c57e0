-- Storing messages: what they are (message), then where they stand (entry), with what the batch met that was there before.
-- Locks: all in one write transaction. Indexes: primary keys; entry_id and entry_unique refuse duplicates.

-- name: publish_next
-- The first sequence number never used, and the mark of the limits as they are. In a write transaction.
-- Index: the primary key's last row.
SELECT max(seq, coalesce((SELECT max(e.seq) FROM entry AS e), 0)) + 1, limits FROM forgotten

-- name: publish_messages
-- Store the immutable part of a message. In a write transaction. Run once for each of a batch: bound as they are, bodies of any size and
-- content need no escape, and that takes half the time of one statement over a JSON array.
INSERT INTO message (
    seq, id, name, queue, topic, body, content_type, headers, key, priority, max_attempts, timeout, unique_key, moments, copies
)
VALUES (
    :seq, :id, :name, :queue, :topic, :body, :content_type, :headers, :key, :priority, :max_attempts, :timeout, :unique_key, :moments,
    :copies
)

-- name: publish_plain
-- Give each message of a batch its place in its queue, ready now; an id or a unique key that is there already is passed over.
-- For tasks without any moments, which most are. In a write transaction. Index: primary key; entry_id and entry_unique refuse duplicates.
INSERT INTO entry (seq, message, id, queue, state, priority, ready_since, unique_key, created, name, key)
SELECT seq, seq, id, queue, 'ready', priority, :now, unique_key, :now, name, key FROM message WHERE seq BETWEEN :first AND :last
ORDER BY seq
ON CONFLICT DO NOTHING

-- name: publish_entries
-- Give each message its place in a queue; an id or a unique key that is there already is passed over. In a write transaction.
-- :batch is a JSON array of arrays: seq, message, id, queue, state, priority, due, expires, deadline, ready since, unique key, name, key, line.
-- Indexes: entry_id and entry_unique refuse duplicates.
INSERT INTO entry (seq, message, id, queue, state, priority, due, expires, deadline, ready_since, unique_key, created, name, key, line)
SELECT
    value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8,
    value ->> 9, value ->> 10, :now, value ->> 11, value ->> 12, value ->> 13
FROM jsonb_each(:batch)
WHERE true
ON CONFLICT DO NOTHING

-- name: publish_refused
-- Which of a batch of entries were passed over as duplicates, and who stands in their way. In the transaction that stored the others.
-- :batch as in publish_entries. Indexes: primary keys, entry_id, entry_unique.
SELECT
    v.value ->> 0,
    coalesce(
        (SELECT e.id FROM entry AS e WHERE e.id = v.value ->> 2 AND e.seq < v.value ->> 0),
        (SELECT e.id FROM entry AS e WHERE e.queue = v.value ->> 3 AND e.unique_key = v.value ->> 10 AND e.seq < v.value ->> 0),
        (
            SELECT h.id FROM hold AS h LEFT JOIN entry AS e ON e.seq = h.entry
            WHERE h.queue = v.value ->> 3 AND h.key = v.value ->> 10 AND {piece_held}
        )
    )
FROM jsonb_each(:batch) AS v
WHERE NOT EXISTS (SELECT 1 FROM entry AS e WHERE e.seq = v.value ->> 0)

-- name: publish_copies
-- Correct the number of copies of messages some of whose entries were duplicates. In the transaction that stored them.
-- :batch is a JSON array of arrays: message, copies to take off. Index: primary key.
UPDATE message SET copies = copies - v.less
FROM (SELECT value ->> 0 AS seq, value ->> 1 AS less FROM jsonb_each(:batch)) AS v
WHERE message.seq = v.seq

-- name: message_forget
-- Forget messages that no entry points to any more. In a write transaction. Index: primary key.
-- :batch is a JSON array of sequence numbers.
DELETE FROM message WHERE seq IN (SELECT value FROM json_each(:batch)) AND copies <= 0
