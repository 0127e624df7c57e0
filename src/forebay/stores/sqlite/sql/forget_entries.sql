-- Forget entries. The last statement of forgetting. :entries is a JSON array of sequence numbers. Index: primary key.
DELETE FROM entry WHERE seq IN (SELECT value FROM json_each(:entries))
