-- The queues of some entries. :entries is a JSON array of sequence numbers. Index: primary key.
SELECT DISTINCT e.queue FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value
