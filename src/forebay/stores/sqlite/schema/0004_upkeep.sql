-- What upkeep stands on: expiry by queue, and how much is kept.
--
-- kept      How many finished entries there are in a queue, by state; so that nobody has to count them.
--   n             kept by the triggers below where entries finish or are made ready again, by whoever forgets entries, and for what
--                 succeeds by the settle: there a trigger would cost each of very many what is one statement for all of a batch

-- Expiry in one queue is nothing that a claim in another has to walk past. (A sweep goes by entry_late, over all queues.)
CREATE INDEX entry_late_here ON entry (queue, state, expires)
WHERE expires IS NOT NULL AND state IN ('scheduled', 'blocked', 'ready', 'retrying');

CREATE TABLE kept (
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) STRICT, WITHOUT ROWID;

INSERT INTO kept (queue, state, n)
SELECT queue, state, count(*) FROM entry WHERE finished IS NOT NULL GROUP BY queue, state;

CREATE TRIGGER kept_more AFTER UPDATE OF finished ON entry WHEN new.finished IS NOT NULL AND old.finished IS NULL AND new.state <> 'succeeded'
BEGIN
    INSERT INTO kept (queue, state, n) VALUES (new.queue, new.state, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;

CREATE TRIGGER kept_less AFTER UPDATE OF finished ON entry WHEN new.finished IS NULL AND old.finished IS NOT NULL
BEGIN
    UPDATE kept SET n = n - 1 WHERE queue = old.queue AND state = old.state;
END;
