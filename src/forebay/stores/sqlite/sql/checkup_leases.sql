-- Leases that were over before a moment and that nobody has taken back. Without a lock. Index: lease_until.
SELECT count(*) FROM lease INDEXED BY lease_until WHERE until < :before
