-- Sequence numbers of the entries a selector names by id, as far as its other conditions hold. Without a lock.
-- :ids and :states are JSON arrays. Index: entry_id.
SELECT seq FROM entry INDEXED BY entry_id
WHERE id IN (SELECT value FROM json_each(:ids))
    AND (:queue IS NULL OR queue = :queue)
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
    AND (:before IS NULL OR finished < :before)
    AND (:name IS NULL OR (SELECT m.name FROM message AS m WHERE m.seq = entry.message) = :name)
