-- Forget the history of some entries. In a write transaction. :entries is a JSON array of sequence numbers. Index: primary key.
DELETE FROM try WHERE entry IN (SELECT value FROM json_each(:entries))
