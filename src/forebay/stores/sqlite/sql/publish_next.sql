-- The first sequence number never used. In a write transaction. Index: the primary key's last row.
SELECT max((SELECT seq FROM forgotten), coalesce((SELECT max(seq) FROM entry), 0)) + 1
