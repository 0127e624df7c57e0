-- All that is known of some entries but their tries. Without a lock. :entries is a JSON array of sequence numbers. Index: primary keys.
SELECT r.* FROM json_each(:entries) AS j CROSS JOIN record AS r ON r.seq = j.value
