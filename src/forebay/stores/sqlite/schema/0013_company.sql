-- Messages that gather, to be handed out together.
--
-- hold
--   gathered      how many are together, of a holder that others join; NULL: nobody does
-- company   What has joined an entry, and is taken with it as long as it has not failed. Written by publish; the rows go with the entry that was joined.

ALTER TABLE hold ADD COLUMN gathered INTEGER;

CREATE TABLE company (
    head INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    PRIMARY KEY (head, entry)
) STRICT, WITHOUT ROWID;
