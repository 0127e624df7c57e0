"""The store in memory: the executable specification of a store, and the engine of tests.

`ledger` holds what is true and is plain, synchronous code under one lock; `store` is its asynchronous face.
"""

from forebay.stores.memory.store import MemoryEngine

__all__ = ["MemoryEngine"]
