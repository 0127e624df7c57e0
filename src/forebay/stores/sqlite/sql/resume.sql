-- Resume a queue. In a write transaction.
DELETE FROM paused WHERE queue = :queue
