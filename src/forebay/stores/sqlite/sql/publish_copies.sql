-- Correct the number of copies of messages some of whose entries were duplicates. In the transaction that stored them.
-- :batch is a JSON array of arrays: message, copies to take off. Index: primary key.
UPDATE message SET copies = copies - v.less
FROM (SELECT value ->> 0 AS seq, value ->> 1 AS less FROM jsonb_each(:batch)) AS v
WHERE message.seq = v.seq
