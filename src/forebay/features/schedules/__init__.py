"""Schedules over a store: their notes (`book`), changing them (`keeping`), and firing what is due (`clockwork`). No loop and no thread."""
