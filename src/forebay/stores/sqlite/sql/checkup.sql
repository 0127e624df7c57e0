-- Looking a file over from outside. Locks: none. Indexes: lease_until, the primary key's end.

-- name: checkup_leases
-- Leases that were over before a moment and that nobody has taken back. Without a lock. Index: lease_until.
SELECT count(*) FROM lease INDEXED BY lease_until WHERE until < :before

-- name: checkup_newest
-- When the latest of the newest entries was created; NULL if there is none. Without a lock. Index: the primary key, a bounded number.
SELECT max(created) FROM (SELECT created FROM entry ORDER BY seq DESC LIMIT 1000)
