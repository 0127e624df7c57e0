-- Write the lease itself: one row, whatever it took. In the claim's transaction.
INSERT INTO lease (token, worker, until, held, entries) VALUES (:token, :worker, :until, :held, :entries)
