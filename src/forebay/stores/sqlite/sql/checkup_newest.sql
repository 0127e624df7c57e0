-- When the latest of the newest entries was created; NULL if there is none. Without a lock. Index: the primary key, a bounded number.
SELECT max(created) FROM (SELECT created FROM entry ORDER BY seq DESC LIMIT 1000)
