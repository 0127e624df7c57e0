-- Looking a file over from outside. Locks: none. Indexes: lease_until, the primary key's end, flow_state.

-- name: checkup_leases
-- Leases that were over before a moment and that nobody has taken back. Without a lock. Index: lease_until.
SELECT count(*) FROM lease INDEXED BY lease_until WHERE until < :before

-- name: checkup_newest
-- When the latest of the newest entries was created; NULL if there is none. Without a lock. Index: the primary key, a bounded number.
SELECT max(created) FROM (SELECT created FROM entry ORDER BY seq DESC LIMIT 1000)

-- name: checkup_flows
-- Flows that run though none of their steps is open, and nothing is left to tell in them; a bounded number is looked at. Without a lock.
-- Indexes: flow_state, flow_mark_flow, primary key of flow_count.
SELECT count(*) FROM (SELECT f.seq FROM flow AS f INDEXED BY flow_state WHERE f.state = 'running' LIMIT 100000) AS f
WHERE NOT EXISTS (SELECT 1 FROM flow_mark AS m WHERE m.flow = f.seq)
    AND NOT EXISTS (
        SELECT 1 FROM flow_count AS c
        WHERE c.flow = f.seq AND c.n > 0 AND c.kind IN ('scheduled', 'blocked', 'ready', 'running', 'retrying')
    )
