"""Sending, from any loop or thread."""
