-- Make entries ready again with fresh counters; one whose unique key is taken stays as it is. In a write transaction.
-- :entries is a JSON array of sequence numbers. Index: primary key; entry_unique refuses.
UPDATE OR IGNORE entry SET
    state = 'ready', ready_since = :now, attempts = 0, crashes = 0, releases = 0, due = NULL, expires = NULL, deadline = NULL,
    finished = NULL, reason = NULL, unknown_since = NULL, cancel_requested = 0,
    unique_key = (SELECT m.unique_key FROM message AS m WHERE m.seq = entry.message)
WHERE seq IN (SELECT value FROM json_each(:entries))
    AND state IN ('scheduled', 'retrying', 'succeeded', 'dead', 'cancelled', 'expired')
