-- The first sequence number never used, and the mark of the limits as they are. In a write transaction.
-- Index: the primary key's last row.
SELECT max(seq, coalesce((SELECT max(e.seq) FROM entry AS e), 0)) + 1, limits FROM forgotten
