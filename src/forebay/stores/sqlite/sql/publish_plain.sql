-- Give each message of a batch its place in its queue, ready now; an id or a unique key that is there already is passed over.
-- For tasks without any moments, which most are. In a write transaction. Index: primary key; entry_id and entry_unique refuse duplicates.
INSERT INTO entry (seq, message, id, queue, state, priority, ready_since, unique_key, created)
SELECT seq, seq, id, queue, 'ready', priority, :now, unique_key, :now FROM message WHERE seq BETWEEN :first AND :last
ORDER BY seq
ON CONFLICT DO NOTHING
