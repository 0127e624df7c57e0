-- Flows: steps that wait for others, and what follows when one is over.
--
-- flow        One row for each flow, from its first steps on until it is forgotten as a whole.
--   state         running, succeeded, failed, cancelled; finished: since when it is over
--   steps         how many it has; on_done, on_failed: the entries of those that wait for all others, NULL: none
--   going         1: it is being forgotten, some of its steps in each transaction
-- entry.flow  The flow that it belongs to; 0: none, as most.
-- flow_step   What an entry is that belongs to a flow. Written with it, deleted with its flow.
--   cond, role    when it runs, and what it is for
--   open, failed, skipped   how many of its parents were so when they last told it; the others had succeeded
--   told          how it was itself when it last told its children: 0 open, 1 succeeded, 2 failed, 3 skipped
--   released      1: its parents have let it go, and have no say in it any more; 2: it was redriven, and is let go or not once nothing is
--                 left to be told: what it waits for may have been redriven with it
--   delay         microseconds from then until it is due; until it expires, for what waits for an event; NULL: not relative to that
-- flow_edge   Who waits for whom; place: in which order a child names its parents.
-- flow_count  How many steps of a flow there are of each kind: of a state or, of what the flow itself has cancelled, of a reason. Kept by the
--             trigger flow_moves, so that nobody has to count them, and by whoever adds steps.
-- flow_mark   Steps whose end is not what they have told. Made by the trigger flow_ends, whoever changed the entry and however; worked off at
--             the end of the same transaction as far as it may go, and then by every later one of any process.
--   target        what they are telling, NULL: nobody has been told; cursor: the last child that has been
-- kept_steps  As kept, for steps. (Kept for plain entries alone: its range is what is forgotten one by one.)
-- flow_kept   How many steps the flows have that are over, by the state whose retention is theirs.

CREATE TABLE flow (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    finished INTEGER,
    state TEXT NOT NULL DEFAULT 'running',
    steps INTEGER NOT NULL DEFAULT 0,
    on_done INTEGER,
    on_failed INTEGER,
    going INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX flow_state ON flow (state);
CREATE INDEX flow_over ON flow (state, finished) WHERE finished IS NOT NULL AND going = 0;
CREATE INDEX flow_going ON flow (seq) WHERE going = 1;

CREATE TABLE flow_step (
    entry INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    cond TEXT NOT NULL,
    role TEXT NOT NULL,
    open INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    told INTEGER NOT NULL DEFAULT 0,
    released INTEGER NOT NULL,
    delay INTEGER
) STRICT;

CREATE INDEX flow_step_opened ON flow_step (entry) WHERE released = 2;

CREATE TABLE flow_edge (
    child INTEGER NOT NULL,
    place INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    PRIMARY KEY (child, place)
) STRICT, WITHOUT ROWID;

-- The children of a step, in the order in which they are told.
CREATE INDEX flow_edge_parent ON flow_edge (parent, child);

CREATE TABLE flow_count (
    flow INTEGER NOT NULL,
    kind TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (flow, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE flow_mark (
    entry INTEGER PRIMARY KEY,
    flow INTEGER NOT NULL,
    target INTEGER,
    cursor INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX flow_mark_flow ON flow_mark (flow);

CREATE TABLE kept_steps (
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE flow_kept (
    state TEXT PRIMARY KEY,
    n INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE entry ADD COLUMN flow INTEGER NOT NULL DEFAULT 0;

CREATE INDEX entry_flow ON entry (flow) WHERE flow <> 0;
-- What is blocked counts against the limit of its queue. Only steps are: the first condition is the one that a plain entry is asked.
CREATE INDEX entry_blocked ON entry (queue, flow) WHERE flow <> 0 AND state = 'blocked';
-- Steps are forgotten with their flow, so that no sweep has to pass by them.
DROP INDEX entry_finished;
CREATE INDEX entry_finished ON entry (queue, state, finished) WHERE finished IS NOT NULL AND flow = 0;
CREATE INDEX entry_over ON entry (queue, state, finished, flow) WHERE flow <> 0 AND finished IS NOT NULL;

DROP TRIGGER kept_more;
CREATE TRIGGER kept_more AFTER UPDATE OF finished ON entry
WHEN new.finished IS NOT NULL AND old.finished IS NULL AND new.state <> 'succeeded' AND new.flow = 0
BEGIN
    INSERT INTO kept (queue, state, n) VALUES (new.queue, new.state, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;

DROP TRIGGER kept_less;
CREATE TRIGGER kept_less AFTER UPDATE OF finished ON entry WHEN new.finished IS NULL AND old.finished IS NOT NULL AND new.flow = 0
BEGIN
    UPDATE kept SET n = n - 1 WHERE queue = old.queue AND state = old.state;
END;

CREATE TRIGGER flow_moves AFTER UPDATE OF state ON entry
WHEN new.flow <> 0 AND (new.state <> old.state OR new.reason IS NOT old.reason)
BEGIN
    UPDATE flow_count SET n = n - 1
    WHERE flow = new.flow
        AND kind = iif(old.state = 'cancelled' AND old.reason IN ('parent-failed', 'skipped', 'duplicate'), old.reason, old.state);
    INSERT INTO flow_count (flow, kind, n)
    VALUES (
        new.flow, iif(new.state = 'cancelled' AND new.reason IN ('parent-failed', 'skipped', 'duplicate'), new.reason, new.state), 1
    )
    ON CONFLICT DO UPDATE SET n = n + 1;
END;

-- One trigger, as each is asked of every entry that ends. What succeeds is counted by the settle, for a whole batch and so with the steps in
-- it: they are taken off again.
CREATE TRIGGER flow_ends AFTER UPDATE OF finished ON entry WHEN new.flow <> 0
BEGIN
    INSERT INTO flow_mark (entry, flow)
    SELECT new.seq, new.flow WHERE new.finished IS NOT old.finished OR new.reason IS NOT old.reason
    ON CONFLICT DO NOTHING;
    INSERT INTO kept_steps (queue, state, n)
    SELECT new.queue, new.state, 1 WHERE new.finished IS NOT NULL AND old.finished IS NULL
    ON CONFLICT DO UPDATE SET n = n + 1;
    UPDATE kept_steps SET n = n - 1
    WHERE new.finished IS NULL AND old.finished IS NOT NULL AND queue = old.queue AND state = old.state;
    INSERT INTO kept (queue, state, n)
    SELECT new.queue, 'succeeded', -1 WHERE new.state = 'succeeded' AND old.finished IS NULL
    ON CONFLICT DO UPDATE SET n = n - 1;
END;
