"""What every room may lean on: time, ids, settings."""
