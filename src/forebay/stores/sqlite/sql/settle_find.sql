-- The sequence numbers of entries known by id only. :batch is a JSON array of ids. Index: entry_id.
SELECT id, seq FROM entry WHERE id IN (SELECT value FROM json_each(:batch))
