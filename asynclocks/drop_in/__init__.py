"""The locks of asyncio, anyio, trio, threading and aiorwlock, over ours: one changed import.

``from asynclocks.drop_in.asyncio import Lock, Event`` instead of ``from asyncio import Lock, Event``, and so on. Names,
signatures, results, errors and documented behaviour are the original's; beneath are the primitives of `asynclocks`: of
any loop and any thread, first come first served, safe under cancellation.

Each class takes a primitive to be another spelling of: ``drop_in.threading.Lock(mutex)`` and
``drop_in.asyncio.Lock(mutex)`` are one lock, for synchronous and asynchronous code to share. What differs from the
originals on purpose stands in one table: docs/drop_in.md.
"""
