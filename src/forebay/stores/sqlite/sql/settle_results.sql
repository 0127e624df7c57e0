-- Keep a result. In the transaction of the settle. Run once for each of a batch. Index: primary key.
INSERT OR REPLACE INTO result (entry, body) VALUES (:entry, :body)
