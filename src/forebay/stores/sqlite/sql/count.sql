-- All queues by state, and since when the oldest ready entry of each is ready. Without a lock. Reads the whole table.
SELECT queue, state, count(*), min(ready_since) FROM entry GROUP BY queue, state
