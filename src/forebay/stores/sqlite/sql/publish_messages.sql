-- Store the immutable part of a message. In a write transaction. Run once for each of a batch: bound as they are, bodies of any size and
-- content need no escape, and that takes half the time of one statement over a JSON array.
INSERT INTO message (
    seq, id, name, queue, topic, body, content_type, headers, key, priority, max_attempts, timeout, unique_key, moments, copies
)
VALUES (
    :seq, :id, :name, :queue, :topic, :body, :content_type, :headers, :key, :priority, :max_attempts, :timeout, :unique_key, :moments,
    :copies
)
