-- All subscriptions: the queue and the topic pattern it is bound to. A small table, read whole.
SELECT queue, pattern FROM binding WHERE pattern IS NOT NULL
