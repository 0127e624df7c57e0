"""The store in memory: the executable specification of a store, and the engine of tests.

`ledger` holds what is true, with the few moves that everything is made of. What is done with it is plain, synchronous code under one
lock, in files that are named as those of the SQLite store that do the same; `store` is their asynchronous face.
"""

from forebay.stores.memory.store import MemoryEngine

__all__ = ["MemoryEngine"]
