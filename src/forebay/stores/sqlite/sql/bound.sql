-- How many of some queues are already declared just so. Without a lock. :batch as in bind.
SELECT count(*) FROM jsonb_each(:batch) AS v
CROSS JOIN binding AS b ON b.queue = v.value ->> 0
WHERE (v.value ->> 5 OR (b.pattern IS v.value ->> 1 AND b.grp IS v.value ->> 2)) AND b.most IS v.value ->> 3 AND b.drops IS v.value ->> 4
