-- Renew leases. In a write transaction. :tokens is a JSON array. Index: lease token.
UPDATE lease SET until = :until WHERE token IN (SELECT value FROM json_each(:tokens))
