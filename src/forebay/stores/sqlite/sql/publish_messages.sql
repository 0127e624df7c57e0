-- Store the immutable part of a batch of messages. In a write transaction.
-- :batch is a JSON array of arrays: seq, id, name, topic, body, whether body is hexadecimal, content type, headers, key, priority,
-- max attempts, timeout, unique key, moments, copies.
INSERT INTO message (
    seq, id, name, topic, body, content_type, headers, key, priority, max_attempts, timeout, unique_key, moments, copies
)
SELECT
    value ->> 0, value ->> 1, value ->> 2, value ->> 3,
    CASE WHEN value ->> 5 THEN unhex(value ->> 4) ELSE CAST(value ->> 4 AS BLOB) END,
    value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, value ->> 14
FROM jsonb_each(:batch)
