-- End entries that succeeded. After settle_try, which checked their leases. :entries is a JSON array of sequence numbers.
-- Index: primary key; leaves entry_unique, enters entry_finished.
UPDATE entry SET
    state = 'succeeded', finished = :now, attempts = attempts + 1, tries = tries + 1, settled_by = token, token = NULL,
    unique_key = NULL
WHERE seq IN (SELECT value FROM json_each(:entries))
