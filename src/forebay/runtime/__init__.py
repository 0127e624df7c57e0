"""Running the work: from a delivery to its settlement, and all that keeps it safe on the way. Knows ports, never engines."""
