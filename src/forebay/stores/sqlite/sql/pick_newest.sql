-- Sequence numbers of the entries a selector means, newest first, from a cursor on. Without a lock.
-- A NULL parameter is no condition; :states is a JSON array. Index: the primary key, in order.
SELECT seq FROM entry
WHERE seq < :cursor
    AND (:queue IS NULL OR queue = :queue)
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
    AND (:before IS NULL OR finished < :before)
    AND (:name IS NULL OR (SELECT m.name FROM message AS m WHERE m.seq = entry.message) = :name)
ORDER BY seq DESC LIMIT :limit
