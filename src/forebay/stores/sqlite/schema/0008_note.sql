-- Small definitions that all processes share, such as schedules.
--
-- note      One row for each, and for a day one for each that was deleted.
--   version   grows with each change of a note of its kind: whoever has read it may change the note, and asks for what has been changed since
--   body      JSON; NULL: it is deleted
--   at        when it was changed last

CREATE TABLE note (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    body BLOB,
    at INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;
CREATE UNIQUE INDEX note_version ON note (kind, version);
CREATE INDEX note_gone ON note (at) WHERE body IS NULL;
