-- Put entries under a lease. In the transaction that read the front. :entries is a JSON array of sequence numbers. Index: primary key.
UPDATE entry SET state = 'running', token = :token, started = :now
WHERE seq IN (SELECT value FROM json_each(:entries))
