-- End what waits in a full queue and was not started in time, a bounded number. In a write transaction. Index: entry_late.
UPDATE entry SET state = 'expired', finished = :now, unique_key = NULL
WHERE seq IN (
    SELECT seq FROM entry INDEXED BY entry_late
    WHERE expires <= :now AND state IN ('scheduled', 'blocked', 'ready', 'retrying') AND queue = :queue
    LIMIT :limit
)
