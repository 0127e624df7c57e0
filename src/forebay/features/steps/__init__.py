"""Durable steps: a handler that goes on where a try before it ended."""
