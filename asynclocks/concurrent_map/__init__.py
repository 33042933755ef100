"""ConcurrentMap: a dict shared by tasks and threads, with per-key guards and single flight.

Each room stands on those below it:

    map                what waits: entries, refs, flights by `get_or_insert_with`, `compute`
    dict               what never waits: reads and writes
    entries refs       the guards of a key
    holds              what they have in common
    flights            one run of an `init` for all who ask
    steps              what a write changes, inside the lock
    lock               the one short lock, and the table of held keys
    keys               the line of one key
"""

from asynclocks.concurrent_map.entries import Entry
from asynclocks.concurrent_map.map import ConcurrentMap
from asynclocks.concurrent_map.refs import Ref

__all__ = ["ConcurrentMap", "Entry", "Ref"]
