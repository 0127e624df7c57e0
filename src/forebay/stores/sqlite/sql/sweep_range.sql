-- An upper bound of the number of entries, without counting. Index: the two ends of the primary key.
SELECT coalesce((SELECT max(seq) FROM entry) - (SELECT min(seq) FROM entry) + 1, 0)
