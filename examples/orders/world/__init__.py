"""What the order service does not own: a payment provider and a mail server."""
