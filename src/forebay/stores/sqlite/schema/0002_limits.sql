-- Version 2: limits for senders from outside.
--
-- binding
--   most          how many messages may wait in the queue before such senders are refused; NULL: any number
--   drops         1: what has expired is ended before they are
-- forgotten
--   limits        a random number, another one whenever a limit is changed; 0 as long as there never was one. It stands here because
--                 every publish reads this row anyway: a connection so learns for nothing that what it knows of limits is old.

ALTER TABLE binding ADD COLUMN most INTEGER;
ALTER TABLE binding ADD COLUMN drops INTEGER NOT NULL DEFAULT 0;
ALTER TABLE forgotten ADD COLUMN limits INTEGER NOT NULL DEFAULT 0;
