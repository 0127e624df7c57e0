-- Who has told the store what.
--
-- audit     One row for each command that had an effect, the last ten thousand kept. Written in the transactions of the command.
--   number        in the order in which they began to take effect
--   token         made by whoever carries it out: what takes several transactions has one row, that each of them brings up to date
--   actor, command, which, done   JSON: who; what; to which messages; with what effect so far

CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    token TEXT NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    command TEXT NOT NULL,
    which TEXT NOT NULL,
    done TEXT NOT NULL
) STRICT;
