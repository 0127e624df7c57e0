-- Store a large body apart, bound as it is rather than as JSON. In the transaction that stored the message. Index: primary key.
UPDATE message SET body = :body WHERE seq = :seq
