-- End leases that hold nothing any more. After lease_less, with its :batch. Index: lease token.
DELETE FROM lease WHERE token IN (SELECT value ->> 0 FROM jsonb_each(:batch)) AND held <= 0
