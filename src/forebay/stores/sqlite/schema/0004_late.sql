-- Expiry in one queue is nothing that a claim in another has to walk past. (A sweep goes by entry_late, over all queues.)

-- What is late in one queue.
CREATE INDEX entry_late_here ON entry (queue, state, expires)
WHERE expires IS NOT NULL AND state IN ('scheduled', 'blocked', 'ready', 'retrying');
