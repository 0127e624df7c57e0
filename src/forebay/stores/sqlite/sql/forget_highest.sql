-- Remember the highest sequence number, in case its entry is among those that go. In a write transaction, before forget_entries.
-- Index: the primary key's last row.
UPDATE forgotten SET seq = max(seq, coalesce((SELECT max(e.seq) FROM entry AS e), 0))
