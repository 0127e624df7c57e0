-- The first free sequence number. In a write transaction. Index: the primary key's last row.
SELECT coalesce(max(seq), 0) + 1 FROM entry
