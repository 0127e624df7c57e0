-- What running handlers say of their progress.
--
-- progress  The latest word on an entry; of the try that began before it. Written by extend, deleted with its entry.
--   share         from 0 to 1; NULL: not known
--   overdue       1: its time is up and it goes on
--   at            when it was said

CREATE TABLE progress (
    entry INTEGER PRIMARY KEY,
    share REAL,
    note TEXT NOT NULL,
    overdue INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;

-- Everything known of an entry but its tries.
DROP VIEW record;
CREATE VIEW record AS
SELECT
    e.seq, e.id, e.queue, e.state, e.created, e.due, e.expires, e.deadline, e.started, e.finished,
    e.attempts, e.crashes, e.releases, e.cancel_requested, e.reason, r.body AS result, p.share, p.note, p.overdue, p.at,
    m.id AS message_id, m.name, m.queue AS task_queue, m.topic, m.body, m.content_type, m.headers, m.key, m.priority,
    m.max_attempts, m.timeout, m.unique_key, m.moments
FROM entry AS e
CROSS JOIN message AS m ON m.seq = e.message
LEFT JOIN result AS r ON r.entry = e.seq
LEFT JOIN progress AS p ON p.entry = e.seq AND p.at >= e.started;
