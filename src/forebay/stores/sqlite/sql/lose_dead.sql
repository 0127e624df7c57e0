-- How many of some entries, just lost, are dead of it. After lose. :entries is a JSON array of sequence numbers. Index: primary key.
SELECT count(*) FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value WHERE e.state = 'dead'
