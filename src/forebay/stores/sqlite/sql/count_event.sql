-- Count an event. In a write transaction.
UPDATE counter SET n = n + :n WHERE name = :name
