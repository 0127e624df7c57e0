-- Write the lease itself: one row, whatever it took. In the claim's transaction, before claim_take:
-- no row if the token is in use already.
INSERT INTO lease (token, worker, until, held, entries) VALUES (:token, :worker, :until, :held, :entries)
ON CONFLICT (token) DO NOTHING
