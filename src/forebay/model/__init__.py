"""Pure values and decisions: what moves between rooms, and what follows from what.

Nothing here does I/O, reads a clock, draws a random number or awaits.
"""
