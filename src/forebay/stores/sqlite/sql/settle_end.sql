-- End entries that did not succeed: dead, cancelled, expired. After settle_try. Index: primary key.
-- :batch is a JSON array of arrays: seq, state, attempts spent, reason (NULL keeps it), crashes.
UPDATE entry SET
    state = v.state, finished = :now, reason = coalesce(v.reason, entry.reason), attempts = entry.attempts + v.attempts,
    crashes = entry.crashes + v.crashes,
    tries = tries + 1, settled_by = token, token = NULL, unique_key = NULL
FROM (
    SELECT
        value ->> 0 AS seq, value ->> 1 AS state, value ->> 2 AS attempts, value ->> 3 AS reason, value ->> 4 AS crashes
    FROM jsonb_each(:batch)
) AS v
WHERE entry.seq = v.seq
