-- Forget the results of entries that were made ready again. After redrive. :entries is a JSON array of sequence numbers.
DELETE FROM result WHERE entry IN (
    SELECT e.seq FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value WHERE e.state = 'ready'
)
