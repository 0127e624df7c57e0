-- Pause a queue. In a write transaction.
INSERT INTO paused (queue) VALUES (:queue) ON CONFLICT DO NOTHING
