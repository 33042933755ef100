"""After a fork: the child has only the thread that forked. What other threads were inside of is free again.

Everything that has an internal lock is known here by a weak reference. In the child, before `os.fork` returns there,
each is told once. Whoever uses a lock pays nothing for it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any, TypeVar
from weakref import ref

L = TypeVar("L")


class _Known(ref[Any]):
    """A weak reference that is compared by identity: a map cannot be hashed."""

    __slots__ = ()

    __eq__ = object.__eq__
    __hash__ = object.__hash__


_with_locks: set[_Known] = set()
_with_sleepers: set[_Known] = set()


def tell_in_child(thing: Any) -> None:
    """Call ``thing._after_fork()`` in every child process as long as there is this thing; a lock is made free there."""
    _with_locks.add(_Known(thing, _with_locks.discard))


def tell_in_child_at_last(thing: Any) -> None:
    """The same, when all locks are free there, and those are gone from their lines who have not come along."""
    _with_sleepers.add(_Known(thing, _with_sleepers.discard))


def freed_in_child(lock: L) -> L:
    """This lock, raw or re-entrant: it is free in every child process, unless the thread that forked is inside."""
    tell_in_child(lock)
    return lock


def _tell_all() -> None:
    with ExitStack() as all_of_them:  # also if one of them raises
        for known in [*_with_sleepers, *_with_locks]:  # the last one first
            all_of_them.callback(_tell, known())


def _tell(thing: Any) -> None:
    if hasattr(thing, "_after_fork"):
        thing._after_fork()
    elif thing is not None and not getattr(thing, "_is_owned", _by_nobody)():
        thing._at_fork_reinit()


def _by_nobody() -> bool:
    """A raw lock does not know its owner. Ours are held for a few steps that do not fork."""
    return False


getattr(os, "register_at_fork", dict)(after_in_child=_tell_all)  # Windows has no forks; a dict does nothing
