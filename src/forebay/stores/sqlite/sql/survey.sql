-- Workers and rates: written in passing, and looked at.
-- Locks: those that change something run in a write transaction, the others without one. Indexes: primary keys.

-- name: rate_add
-- Add to what a minute did in one place. Run once for each place of a transaction, at its end. Index: primary key.
INSERT INTO rate (minute, queue, name, arrived, succeeded, failed, dead, ran)
VALUES (:minute, :queue, :name, :arrived, :succeeded, :failed, :dead, :ran)
ON CONFLICT (minute, queue, name) DO UPDATE SET
    arrived = arrived + excluded.arrived, succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed,
    dead = dead + excluded.dead, ran = ran + excluded.ran

-- name: rates
-- Rates, the newest minutes first. A NULL parameter is no condition. Index: primary key, from its end; sorts the places of one minute.
SELECT minute, queue, name, arrived, succeeded, failed, dead, ran FROM rate
WHERE minute >= :since AND minute < :until AND (:queue IS NULL OR queue = :queue) AND (:name IS NULL OR name = :name)
ORDER BY minute DESC, queue, name LIMIT :limit

-- name: rate_forget
-- Forget the oldest rates, a bounded number. Index: primary key.
DELETE FROM rate WHERE (minute, queue, name) IN (
    SELECT r.minute, r.queue, r.name FROM rate AS r WHERE r.minute < :before ORDER BY r.minute LIMIT :limit
)

-- name: presence_renew
-- A worker says that it is there. Index: primary key.
INSERT INTO presence (worker, started, seen, until, said) VALUES (:worker, :now, :now, :until, :said)
ON CONFLICT (worker) DO UPDATE SET
    started = iif(until <= excluded.seen, excluded.started, started), seen = excluded.seen, until = excluded.until, said = excluded.said

-- name: presence_end
-- A worker is gone. Index: primary key.
DELETE FROM presence WHERE worker = :worker

-- name: presence_forget
-- Forget workers that have not renewed their presence, a bounded number. A small table, read whole.
DELETE FROM presence WHERE worker IN (SELECT p.worker FROM presence AS p WHERE p.until <= :now LIMIT :limit)

-- name: known_forget
-- Forget when somebody has long ago known a name, a bounded number. Index: known_at.
DELETE FROM known WHERE (queue, name) IN (SELECT k.queue, k.name FROM known AS k WHERE k.at < :before ORDER BY k.at LIMIT :limit)

-- name: presences
-- The workers that are there. A small table, read whole in the order of its primary key.
SELECT worker, said, started, seen FROM presence WHERE until > :now ORDER BY worker LIMIT :limit

-- name: survey_look
-- Whether rates, presences or known names are to be forgotten. Without a lock. Indexes: the primary key's first row, known_at; a small
-- table, read whole.
SELECT EXISTS (SELECT 1 FROM rate WHERE minute < :before) OR EXISTS (SELECT 1 FROM presence WHERE until <= :now)
    OR EXISTS (SELECT 1 FROM known WHERE at < :known)

-- name: audit_write
-- Say who told the store what, or how far it has come since. In a transaction of the command. Index: the token.
INSERT INTO audit (token, at, actor, command, which, done) VALUES (:token, :now, :actor, :command, :which, :done)
ON CONFLICT (token) DO UPDATE SET done = excluded.done

-- name: audit_trim
-- Forget all but the last rows. After audit_write. Index: the two ends of the primary key.
DELETE FROM audit WHERE number <= (SELECT max(a.number) FROM audit AS a) - :most

-- name: audits
-- The last rows, the newest first, from one on. Index: primary key, from its end.
SELECT number, at, actor, command, which, done FROM audit WHERE number < :before ORDER BY number DESC LIMIT :limit
