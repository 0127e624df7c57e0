-- Sequence numbers of the entries a selector means, oldest first, from a cursor on. Without a lock.
-- A NULL parameter is no condition; :states is a JSON array. Index: entry_ended, in order: no walk over what succeeded.
SELECT seq FROM entry INDEXED BY entry_ended
WHERE finished IS NOT NULL AND state <> 'succeeded'
    AND seq > :cursor
    AND (:queue IS NULL OR queue = :queue)
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
    AND (:before IS NULL OR finished < :before)
    AND (:name IS NULL OR (SELECT m.name FROM message AS m WHERE m.seq = entry.message) = :name)
ORDER BY seq ASC LIMIT :limit
