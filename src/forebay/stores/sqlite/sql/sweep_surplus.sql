-- How many entries of a state there are; only asked when there may be too many. Without a lock. Index: entry_finished, covering.
SELECT count(*) FROM entry INDEXED BY entry_finished WHERE state = :state AND finished IS NOT NULL
