-- Forget the progress of some entries. In a write transaction. :entries is a JSON array of sequence numbers. Index: primary key.
DELETE FROM progress WHERE entry IN (SELECT value FROM json_each(:entries))
