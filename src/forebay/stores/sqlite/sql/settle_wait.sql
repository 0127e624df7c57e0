-- Put entries back to wait (retrying, scheduled, or ready again), or cancel them if they were asked to stop while they ran.
-- After settle_try. Index: primary key. :batch is a JSON array of arrays: seq, state, attempts spent, releases, due (NULL keeps it),
-- what becomes of unknown_since (0 keep, 1 begin unless begun, 2 clear), and crashes.
UPDATE entry SET
    state = iif(cancel_requested, 'cancelled', v.state),
    finished = iif(cancel_requested, :now, NULL),
    unique_key = iif(cancel_requested, NULL, unique_key),
    ready_since = iif(v.state = 'ready', :now, ready_since),
    due = coalesce(v.due, entry.due),
    unknown_since = CASE v.unknown WHEN 1 THEN coalesce(unknown_since, :now) WHEN 2 THEN NULL ELSE unknown_since END,
    attempts = entry.attempts + v.attempts,
    releases = entry.releases + v.releases,
    crashes = entry.crashes + v.crashes,
    tries = tries + 1,
    settled_by = token,
    token = NULL
FROM (
    SELECT
        value ->> 0 AS seq, value ->> 1 AS state, value ->> 2 AS attempts, value ->> 3 AS releases, value ->> 4 AS due,
        value ->> 5 AS unknown, value ->> 6 AS crashes
    FROM jsonb_each(:batch)
) AS v
WHERE entry.seq = v.seq
