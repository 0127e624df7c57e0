-- Notes: small definitions that all processes share.
-- Locks: what changes something runs in a write transaction, the others without one. Indexes: the primary key, note_version, note_gone.

-- name: note_named
-- What stands of some notes, those deleted included. :named is a JSON array of [kind, name]. Index: primary key.
SELECT n.kind, n.name, n.version, n.body FROM jsonb_each(:named) AS v
CROSS JOIN note AS n ON n.kind = v.value ->> 0 AND n.name = v.value ->> 1

-- name: note_highest
-- The version that a kind has come to. Index: note_version, its end.
SELECT coalesce(max(version), 0) FROM note WHERE kind = :kind

-- name: note_count
-- How many there are of a kind: asked where one is new. Index: note_version, all of the kind.
SELECT count(*) FROM note WHERE kind = :kind

-- name: note_write
-- Write one note. Run once for each; versions are given by whoever holds the transaction. Index: primary key.
INSERT INTO note (kind, name, version, body, at) VALUES (:kind, :name, :version, :body, :now)
ON CONFLICT (kind, name) DO UPDATE SET version = excluded.version, body = excluded.body, at = excluded.at

-- name: notes
-- Notes of a kind in the order of their last changes, from one on. Index: note_version.
SELECT name, version, body FROM note WHERE kind = :kind AND version > :since AND (:gone OR body IS NOT NULL)
ORDER BY version LIMIT :limit

-- name: notes_named
-- The same of some names: a JSON array of a thousand at most. Index: primary key; sorts those.
SELECT n.name, n.version, n.body FROM (SELECT DISTINCT value FROM jsonb_each(:names)) AS v
CROSS JOIN note AS n ON n.kind = :kind AND n.name = v.value
WHERE n.version > :since AND (:gone OR n.body IS NOT NULL) ORDER BY n.version LIMIT :limit

-- name: note_old
-- Whether one is to be forgotten. Without a lock. Index: note_gone; the last change of each kind stays.
SELECT EXISTS (
    SELECT 1 FROM note AS n WHERE n.body IS NULL AND n.at <= :before
    AND n.version < (SELECT max(m.version) FROM note AS m WHERE m.kind = n.kind)
)

-- name: note_forget
-- Forget what was deleted long ago, a bounded number. The last change of a kind stays: its version may not come again. Index: note_gone.
DELETE FROM note WHERE rowid IN (
    SELECT n.rowid FROM note AS n WHERE n.body IS NULL AND n.at <= :before
    AND n.version < (SELECT max(m.version) FROM note AS m WHERE m.kind = n.kind) ORDER BY n.at LIMIT :limit
)
