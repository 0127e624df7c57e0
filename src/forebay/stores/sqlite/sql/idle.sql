-- Which of some entries do not run. In a write transaction. :entries is a JSON array of sequence numbers. Index: primary key.
SELECT e.seq FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value WHERE e.state <> 'running'
