-- Whether there is anything to sweep; without a lock. Indexes: lease_until, entry_late, entry_finished; one row of each.
SELECT
    EXISTS (SELECT 1 FROM lease WHERE until <= :now)
    OR EXISTS (
        SELECT 1 FROM entry INDEXED BY entry_late
        WHERE expires <= :now AND state IN ('scheduled', 'blocked', 'ready', 'retrying')
    )
    OR EXISTS (SELECT 1 FROM entry INDEXED BY entry_finished WHERE state = 'succeeded' AND finished <= :succeeded)
    OR EXISTS (SELECT 1 FROM entry INDEXED BY entry_finished WHERE state = 'dead' AND finished <= :dead)
    OR EXISTS (SELECT 1 FROM entry INDEXED BY entry_finished WHERE state = 'cancelled' AND finished <= :cancelled)
    OR EXISTS (SELECT 1 FROM entry INDEXED BY entry_finished WHERE state = 'expired' AND finished <= :cancelled)
