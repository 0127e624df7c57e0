-- Keep one result that is large or not text, bound as it is. In the transaction of the settle.
INSERT OR REPLACE INTO result (entry, body) VALUES (:entry, :body)
