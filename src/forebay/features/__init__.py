"""What is built on the ports and used by handlers: each a package or module of its own, and none knows an engine."""
