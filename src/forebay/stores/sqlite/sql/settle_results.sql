-- Keep results. In the transaction of the settle. :batch is a JSON array of arrays: seq, JSON text.
INSERT OR REPLACE INTO result (entry, body) SELECT value ->> 0, CAST(value ->> 1 AS BLOB) FROM jsonb_each(:batch)
