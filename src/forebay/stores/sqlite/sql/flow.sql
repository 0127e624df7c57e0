-- Flows: storing steps, working off what has changed, forgetting a flow, and looking at one.
-- Locks: all that changes runs in a write transaction, after what it follows from; the rest needs none. Indexes: primary keys, flow_edge_parent,
-- flow_mark_flow, flow_going, entry_flow, flow_over; each statement concerns a bounded number of steps.

-- name: piece_end
-- How a step is seen by its children: 0 open, 1 succeeded, 2 failed, 3 skipped.
CASE e.state
    WHEN 'succeeded' THEN 1
    WHEN 'cancelled' THEN iif(e.reason IN ('skipped', 'duplicate'), 3, 2)
    WHEN 'dead' THEN 2
    WHEN 'expired' THEN 2
    ELSE 0
END

-- name: flow_find
-- Which of some flows are there. :ids is a JSON array. In a write transaction. Index: the id.
SELECT f.id, f.seq FROM flow AS f WHERE f.id IN (SELECT value FROM json_each(:ids))

-- name: flow_taken
-- Which of some ids an entry has. :ids is a JSON array. In a write transaction. Index: entry_id.
SELECT e.id FROM entry AS e INDEXED BY entry_id WHERE e.id IN (SELECT value FROM json_each(:ids))

-- name: flow_known
-- Those of some ids that are steps of a flow, and how they stand. :ids is a JSON array. In a write transaction. Indexes: entry_id, primary key.
SELECT e.id, e.seq, s.told, s.role
FROM json_each(:ids) AS j
CROSS JOIN entry AS e INDEXED BY entry_id ON e.id = j.value
CROSS JOIN flow_step AS s ON s.entry = e.seq
WHERE e.flow = :flow

-- name: flow_own
-- The flows that some entries belong to. :entries is a JSON array of sequence numbers. In a write transaction. Index: primary keys.
SELECT e.seq, e.flow, f.id
FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value CROSS JOIN flow AS f ON f.seq = e.flow

-- name: flow_begin
-- Begin a flow. In a write transaction, after flow_find. Index: the id refuses a second one.
INSERT INTO flow (id, created) VALUES (:id, :now)

-- name: flow_grow
-- A flow has more steps. After they are stored; the two that wait for all others are named where it begins. Index: primary key.
UPDATE flow SET steps = steps + :n, on_done = coalesce(on_done, :on_done), on_failed = coalesce(on_failed, :on_failed) WHERE seq = :flow

-- name: flow_entries
-- Give steps their places in their queues. Their ids and unique keys are free. In a write transaction, after publish_messages.
-- :batch is a JSON array of arrays: seq, id, queue, state, priority, due, expires, deadline, ready since, unique key, name, key.
INSERT INTO entry (seq, message, id, queue, state, priority, due, expires, deadline, ready_since, unique_key, created, name, key, flow)
SELECT
    value ->> 0, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8,
    value ->> 9, :now, value ->> 10, value ->> 11, :flow
FROM jsonb_each(:batch)

-- name: flow_steps_add
-- Store what an entry is in its flow. Run once for each of a batch, after flow_entries. Index: primary key.
INSERT INTO flow_step (entry, name, cond, role, open, failed, skipped, released, delay)
VALUES (:entry, :name, :cond, :role, :open, :failed, :skipped, :released, :delay)

-- name: flow_edges_add
-- Store who waits for whom. Run once for each edge, after flow_entries. Index: primary key.
INSERT INTO flow_edge (child, place, parent) VALUES (:child, :place, :parent)

-- name: flow_count_add
-- Count steps that were stored. Run once for each state. Index: primary key.
INSERT INTO flow_count (flow, kind, n) VALUES (:flow, :kind, :n) ON CONFLICT DO UPDATE SET n = n + excluded.n

-- name: flow_left
-- Whether there is anything to work off. In every write transaction, and without a lock by a sweep. Indexes: the first row of each.
SELECT EXISTS (SELECT 1 FROM flow_mark) OR EXISTS (SELECT 1 FROM flow_step INDEXED BY flow_step_opened WHERE released = 2)
    OR EXISTS (SELECT 1 FROM flow INDEXED BY flow_going WHERE going = 1)

-- name: flow_marks
-- Steps that have something to tell, from one on: what they tell and are, and how far they are. In a write transaction. Index: primary keys.
SELECT m.entry, m.flow, coalesce(m.target, {piece_end}), {piece_end} AS seen, m.cursor, s.told
FROM flow_mark AS m
CROSS JOIN entry AS e ON e.seq = m.entry
CROSS JOIN flow_step AS s ON s.entry = m.entry
WHERE m.entry > :after
ORDER BY m.entry LIMIT :limit

-- name: flow_opened
-- Steps that were redriven, a bounded number, oldest first. In a write transaction. Index: flow_step_opened.
SELECT s.entry FROM flow_step AS s INDEXED BY flow_step_opened WHERE s.released = 2 ORDER BY s.entry LIMIT :limit

-- name: flow_children
-- The next children of some steps, a bounded number of all: those of the first step first, each step's in their order. (That is the order of
-- the loops; asked for in words it would be sorted.) :batch is a JSON array of arrays: step, the child after which to go on.
-- In a write transaction. Index: flow_edge_parent.
SELECT v.key, c.child
FROM jsonb_each(:batch) AS v
CROSS JOIN flow_edge AS c INDEXED BY flow_edge_parent ON c.parent = v.value ->> 0 AND c.child > v.value ->> 1
LIMIT :limit

-- name: flow_tell
-- Change what steps know of their parents. :batch is a JSON array of arrays: step, what to add to open, failed, skipped. Index: primary key.
UPDATE flow_step SET open = open + v.o, failed = failed + v.f, skipped = skipped + v.s
FROM (SELECT value ->> 0 AS entry, value ->> 1 AS o, value ->> 2 AS f, value ->> 3 AS s FROM jsonb_each(:batch)) AS v
WHERE flow_step.entry = v.entry

-- name: flow_told
-- Steps have told all their children what they are. :batch is a JSON array of arrays: step, what it told. Index: primary key.
UPDATE flow_step SET told = v.told
FROM (SELECT value ->> 0 AS entry, value ->> 1 AS told FROM jsonb_each(:batch)) AS v
WHERE flow_step.entry = v.entry AND flow_step.told <> v.told

-- name: flow_unmark
-- Steps have nothing to tell any more. :entries is a JSON array. Index: primary key.
DELETE FROM flow_mark WHERE entry IN (SELECT value FROM json_each(:entries))

-- name: flow_mark_at
-- How far a step has come in telling; NULL: it begins anew. Index: primary key.
UPDATE flow_mark SET target = :target, cursor = :cursor WHERE entry = :entry

-- name: flow_standing
-- Those of some steps that wait, or were cancelled by their flow, and what they know. :entries is a JSON array. Index: primary keys.
SELECT s.entry, s.cond, s.open, s.failed, s.skipped, s.released, iif(e.state = 'cancelled', e.reason, e.state)
FROM json_each(:entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
CROSS JOIN flow_step AS s ON s.entry = e.seq
WHERE (e.state = 'blocked' OR (e.state = 'cancelled' AND e.reason IN ('parent-failed', 'skipped')))
    AND s.role NOT IN ('on_done', 'on_failed')

-- name: flow_block
-- What was cancelled by its flow waits again; what cannot have its unique key again stays as it is. :entries is a JSON array.
-- Index: primary keys; entry_unique refuses.
UPDATE OR IGNORE entry SET
    state = 'blocked', finished = NULL, reason = NULL, line = NULL, rank = NULL,
    unique_key = (SELECT iif(m.moments ->> '$.hold' IS NULL, m.unique_key, NULL) FROM message AS m WHERE m.seq = entry.message)
WHERE seq IN (SELECT value FROM json_each(:entries)) AND state = 'cancelled'

-- name: flow_block_steps
-- No step that waits again is released. After flow_block or flow_opened. :entries is a JSON array. Index: primary key.
UPDATE flow_step SET released = 0 WHERE entry IN (SELECT value FROM json_each(:entries))

-- name: flow_blocked
-- Those of some entries that wait, and in which queue. After flow_block. :entries is a JSON array. Index: primary key.
SELECT e.seq, e.queue FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value WHERE e.state = 'blocked'

-- name: flow_release
-- Let steps run, at once or when they are due; or wait for their event, and no longer than it says. :entries is a JSON array.
-- Index: primary keys.
UPDATE entry SET
    state = CASE WHEN s.role = 'event' THEN 'blocked' WHEN coalesce(:now + s.delay, entry.due) > :now THEN 'scheduled' ELSE 'ready' END,
    due = iif(s.role = 'event', entry.due, coalesce(:now + s.delay, entry.due)),
    expires = iif(
        s.role = 'event', min(coalesce(entry.expires, :now + s.delay), coalesce(:now + s.delay, entry.expires)), entry.expires
    ),
    ready_since = :now
FROM flow_step AS s
WHERE s.entry = entry.seq AND entry.seq IN (SELECT value FROM json_each(:entries)) AND entry.state = 'blocked'

-- name: flow_released
-- Steps are released. After flow_release. :entries is a JSON array. Index: primary keys.
UPDATE flow_step SET released = 1 WHERE entry IN (
    SELECT e.seq FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value WHERE e.state <> 'cancelled'
)

-- name: flow_drop
-- A flow cancels steps that wait, or says anew why it did. :entries is a JSON array. Index: primary key.
UPDATE entry SET state = 'cancelled', reason = :reason, finished = coalesce(finished, :now), unique_key = NULL
WHERE seq IN (SELECT value FROM json_each(:entries)) AND state IN ('blocked', 'cancelled')

-- name: flow_happened
-- What a step waited for has happened. In a write transaction. Index: primary keys.
UPDATE entry SET state = 'succeeded', finished = :now, unique_key = NULL
WHERE seq = :entry AND state = 'blocked' AND (SELECT s.released FROM flow_step AS s WHERE s.entry = entry.seq) = 1

-- name: flow_names
-- The queue and the id of an entry. In a write transaction. Index: primary key.
SELECT e.queue, e.id FROM entry AS e WHERE e.seq = :entry

-- name: flow_quiet
-- Those of some flows in which nothing is left to tell, and how many of their steps are of each kind. :flows is a JSON array.
-- In a write transaction. Indexes: primary keys, flow_mark_flow.
SELECT
    f.seq, f.id, f.state, f.steps, f.finished, f.on_done, f.on_failed,
    (SELECT json_group_object(c.kind, c.n) FROM flow_count AS c WHERE c.flow = f.seq)
FROM json_each(:flows) AS j CROSS JOIN flow AS f ON f.seq = j.value
WHERE NOT EXISTS (SELECT 1 FROM flow_mark AS m WHERE m.flow = f.seq)

-- name: flow_hooks
-- How the steps stand that wait for all others. :entries is a JSON array. Index: primary keys.
SELECT s.entry, s.role, s.released, iif(e.state = 'cancelled' AND e.reason IN ('parent-failed', 'skipped', 'duplicate'), e.reason, e.state)
FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value CROSS JOIN flow_step AS s ON s.entry = e.seq

-- name: flow_reopened
-- The flows that are over, of which some entries are steps that wait. :entries is a JSON array. In a write transaction, after redrive_steps.
-- Index: primary keys.
SELECT DISTINCT f.seq, f.id, f.state, f.steps, f.finished
FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value CROSS JOIN flow AS f ON f.seq = e.flow
WHERE e.state = 'blocked' AND f.finished IS NOT NULL

-- name: flow_close
-- Say where a flow stands. In a write transaction, after flow_quiet. Index: primary key.
UPDATE flow SET state = :state, finished = :finished WHERE seq = :flow

-- name: flow_kept_add
-- So many more steps, or fewer, belong to flows that are over. With flow_close. Index: primary key.
INSERT INTO flow_kept (state, n) VALUES (:state, :n) ON CONFLICT DO UPDATE SET n = n + excluded.n

-- name: flow_old
-- The flows that are over, oldest first, as what is kept like one state; read row by row. In a write transaction. Index: flow_over.
SELECT f.finished, 1 AS whole, f.seq, f.steps AS weight FROM flow AS f INDEXED BY flow_over
WHERE f.state = :state AND f.finished IS NOT NULL AND f.going = 0 ORDER BY f.finished, f.seq LIMIT :limit

-- name: flow_go
-- Begin to forget a flow that is over. In a write transaction. Index: primary key.
UPDATE flow SET going = 1 WHERE seq = :flow AND finished IS NOT NULL AND going = 0

-- name: flow_gone
-- A flow that is being forgotten. In a write transaction. Index: flow_going.
SELECT f.seq FROM flow AS f INDEXED BY flow_going WHERE f.going = 1 ORDER BY f.seq LIMIT 1

-- name: flow_entries_of
-- The next entries of a flow. In a write transaction. Index: entry_flow.
SELECT e.seq FROM entry AS e INDEXED BY entry_flow WHERE e.flow = :flow AND e.flow <> 0 ORDER BY e.seq LIMIT :limit

-- name: flow_forget_edges
-- Forget what some steps waited for, a bounded number. :entries is a JSON array. Index: primary key.
DELETE FROM flow_edge WHERE (child, place) IN (
    SELECT c.child, c.place FROM json_each(:entries) AS j CROSS JOIN flow_edge AS c ON c.child = j.value LIMIT :limit
)

-- name: flow_forget_kept
-- Fewer finished steps of their queues and states. Before the entries are forgotten. :entries is a JSON array. Index: primary keys.
UPDATE kept_steps SET n = kept_steps.n - v.n
FROM (
    SELECT e.queue, e.state, count(*) AS n
    FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value GROUP BY e.queue, e.state
) AS v
WHERE kept_steps.queue = v.queue AND kept_steps.state = v.state

-- name: flow_forget_none
-- Leave out of what is kept the queues that have nothing any more. After flow_forget_kept. A small table, read whole.
DELETE FROM kept_steps WHERE n <= 0

-- name: flow_forget_steps
-- Forget what some entries were in their flow. :entries is a JSON array. Index: primary key.
DELETE FROM flow_step WHERE entry IN (SELECT value FROM json_each(:entries))

-- name: flow_forget_counts
-- Forget how many steps a flow had. When it has none left. Index: primary key.
DELETE FROM flow_count WHERE flow = :flow

-- name: flow_forget
-- Forget a flow. When it has no steps left. Index: primary key.
DELETE FROM flow WHERE seq = :flow

-- name: flow_range
-- The first and the last sequence number of a flow's steps. Without a lock. Index: the two ends of entry_flow's range.
SELECT
    coalesce((SELECT min(e.seq) FROM entry AS e INDEXED BY entry_flow WHERE e.flow = f.seq AND e.flow <> 0), 0),
    coalesce((SELECT max(e.seq) FROM entry AS e INDEXED BY entry_flow WHERE e.flow = f.seq AND e.flow <> 0), 0)
FROM (SELECT (SELECT g.seq FROM flow AS g WHERE g.id = :flow) AS seq) AS f

-- name: flow_status
-- Where one flow stands. Without a lock or in a write transaction. Index: the id.
SELECT f.seq, f.state, f.steps, f.finished, f.going FROM flow AS f WHERE f.id = :id

-- name: flow_among
-- Those of some entries that are steps; what they are, why, and whether their flow is being forgotten. :entries is a JSON array.
-- In a write transaction. Index: primary keys.
SELECT e.seq, e.state, e.reason, f.going
FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value CROSS JOIN flow AS f ON f.seq = e.flow

-- name: flow_waits
-- What the blocked among some entries wait for: how many, and the names of the first. Those that wait for all others have no parents: they
-- wait for as many as are open. Without a lock. :entries is a JSON array. Index: primary keys; looks at :parents edges of each at most.
SELECT
    e.seq,
    iif(
        s.role IN ('on_done', 'on_failed'),
        (
            SELECT sum(c.n) FROM flow_count AS c
            WHERE c.flow = e.flow AND c.kind IN ('scheduled', 'blocked', 'ready', 'running', 'retrying')
        ) - (
            SELECT count(*) FROM flow AS f CROSS JOIN entry AS h ON h.seq IN (f.on_done, f.on_failed)
            WHERE f.seq = e.flow AND h.finished IS NULL
        ),
        s.open
    ),
    (
        SELECT json_group_array(first.name) FROM (
            SELECT p.name FROM (SELECT c.parent FROM flow_edge AS c WHERE c.child = e.seq ORDER BY c.place LIMIT :parents) AS c
            CROSS JOIN flow_step AS p ON p.entry = c.parent
            WHERE p.told = 0 LIMIT :names
        ) AS first
    )
FROM json_each(:entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
CROSS JOIN flow_step AS s ON s.entry = e.seq
WHERE e.state = 'blocked' AND s.released <> 1

-- name: piece_flow
-- A flow as a record.
SELECT
    f.id, f.state, f.created, f.finished,
    (SELECT json_group_object(c.kind, c.n) FROM flow_count AS c WHERE c.flow = f.seq)
FROM flow AS f

-- name: flows
-- Flows, the newest first. Without a lock. Index: the primary key, from its end.
{piece_flow}
WHERE f.going = 0 AND f.created < :before ORDER BY f.seq DESC LIMIT :limit

-- name: flows_in
-- Flows in one state, the newest first. Without a lock. Index: flow_state, from the end of its range.
{piece_flow} INDEXED BY flow_state
WHERE f.going = 0 AND f.created < :before AND f.state = :state ORDER BY f.seq DESC LIMIT :limit

-- name: flows_named
-- Flows by their ids, the newest first: sorts them. Without a lock. :ids is a JSON array. Index: the id.
{piece_flow}
WHERE f.going = 0 AND f.created < :before AND (:state IS NULL OR f.state = :state) AND f.id IN (SELECT value FROM json_each(:ids))
ORDER BY f.seq DESC LIMIT :limit

-- name: flow_steps
-- The steps of a flow in the order in which they were added. Without a lock. Indexes: entry_flow, primary keys.
SELECT
    e.id, s.name, e.name AS task, e.queue, e.state, s.cond, s.role,
    (
        SELECT json_group_array(one.id) FROM (
            SELECT p.id FROM flow_edge AS c CROSS JOIN entry AS p ON p.seq = c.parent WHERE c.child = e.seq ORDER BY c.place LIMIT :parents
        ) AS one
    ),
    s.open, s.failed, s.skipped, e.attempts, e.reason,
    (
        SELECT t.error FROM failure AS x CROSS JOIN try AS t ON t.entry = x.entry
        WHERE x.entry = e.seq AND t.error IS NOT NULL ORDER BY t.number DESC LIMIT 1
    ),
    e.started, e.finished
FROM entry AS e INDEXED BY entry_flow
CROSS JOIN flow_step AS s ON s.entry = e.seq
WHERE e.flow = (SELECT f.seq FROM flow AS f WHERE f.id = :flow AND f.going = 0) AND e.flow <> 0
    AND e.seq > coalesce((SELECT b.seq FROM entry AS b WHERE b.id = :beyond), 0)
ORDER BY e.seq LIMIT :limit

-- name: flow_parents
-- The parents of a step in the order in which it names them, and what they returned, or failed of. Without a lock.
-- Indexes: entry_id, primary keys.
SELECT
    p.id, s.name, p.state, r.body, p.reason,
    CASE WHEN p.state <> 'succeeded' THEN (
        SELECT json_remove(t.error, '$.traceback') FROM failure AS x CROSS JOIN try AS t ON t.entry = x.entry
        WHERE x.entry = p.seq AND t.error IS NOT NULL ORDER BY t.number DESC LIMIT 1
    ) END
FROM (SELECT e.seq FROM entry AS e INDEXED BY entry_id WHERE e.id = :of) AS o
CROSS JOIN flow_edge AS c ON c.child = o.seq
CROSS JOIN entry AS p ON p.seq = c.parent
CROSS JOIN flow_step AS s ON s.entry = p.seq
LEFT JOIN result AS r ON r.entry = p.seq
WHERE c.place > coalesce(
    (
        SELECT b.place FROM flow_edge AS b INDEXED BY flow_edge_parent
        WHERE b.child = o.seq AND b.parent = (SELECT e.seq FROM entry AS e WHERE e.id = :beyond)
    ),
    -1
)
ORDER BY c.place LIMIT :limit
