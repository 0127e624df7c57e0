-- Forget messages that no entry points to any more. In a write transaction. Index: primary key.
-- :batch is a JSON array of sequence numbers.
DELETE FROM message WHERE seq IN (SELECT value FROM json_each(:batch)) AND copies <= 0
