-- Fewer copies of the messages of some entries. In a write transaction, before forget_entries.
-- :entries is a JSON array of sequence numbers. Index: primary keys.
UPDATE message SET copies = copies - v.n
FROM (
    SELECT e.message AS seq, count(*) AS n
    FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value
    GROUP BY e.message
) AS v
WHERE message.seq = v.seq
