-- End a lease. In a write transaction. Index: lease token.
DELETE FROM lease WHERE token = :token
