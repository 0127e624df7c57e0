"""Flows: from what a caller adds to steps that a store takes whole. Nothing is sent here."""
