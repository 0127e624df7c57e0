-- Make ready what is due, the longest due first, a bounded number. In a write transaction. Index: entry_timed.
UPDATE entry SET state = 'ready', ready_since = due
WHERE seq IN (
    SELECT seq FROM entry INDEXED BY entry_timed
    WHERE queue = :queue AND state IN ('scheduled', 'retrying') AND due <= :now
    ORDER BY due LIMIT :limit
)
