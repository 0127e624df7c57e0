-- Say to all connections that limits have changed. In a write transaction. Random, so that no number is ever met again, not even one of
-- a transaction that was rolled back.
UPDATE forgotten SET limits = random()
