-- Drop tries beyond the number kept. In a write transaction. :entries is a JSON array of sequence numbers. Index: primary keys.
DELETE FROM try WHERE (entry, number) IN (
    SELECT e.seq, e.tries - :keep FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value WHERE e.tries > :keep
)
