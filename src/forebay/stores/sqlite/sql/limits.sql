-- All limits: the queue, how many may wait in it, whether it drops what has expired. A small table, read whole.
SELECT queue, most, drops FROM binding WHERE most IS NOT NULL ORDER BY queue
