-- The queues that were declared or paused, whether paused, what feeds them, and their limits. Small tables, read whole.
SELECT b.queue, EXISTS (SELECT 1 FROM paused AS p WHERE p.queue = b.queue), b.pattern, b.grp, b.most FROM binding AS b
UNION ALL
SELECT p.queue, 1, NULL, NULL, NULL FROM paused AS p WHERE NOT EXISTS (SELECT 1 FROM binding AS b WHERE b.queue = p.queue)
