-- Forget the messages of some entries where these were the last copies. After forget_copies. Index: primary keys.
DELETE FROM message WHERE copies <= 0 AND seq IN (
    SELECT e.message FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value
)
