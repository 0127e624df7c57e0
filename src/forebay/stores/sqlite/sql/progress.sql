-- Keep what is said of the progress of entries that are under the lease it is said under. In a write transaction, after extend_match.
-- :batch is a JSON array of arrays: seq, token, share, note, overdue. Index: primary keys.
INSERT OR REPLACE INTO progress (entry, share, note, overdue, at)
SELECT e.seq, v.value ->> 2, v.value ->> 3, v.value ->> 4, :now
FROM jsonb_each(:batch) AS v
CROSS JOIN entry AS e ON e.seq = v.value ->> 0
WHERE e.token = v.value ->> 1
