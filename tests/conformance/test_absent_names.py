"""Names that one looks for, coming from elsewhere, and that are not there."""

from __future__ import annotations

import pydoc
from typing import Any

import pytest

from asynclocks import Barrier, Condvar, Notify, RwLock, Semaphore


@pytest.mark.parametrize(
    ("lock", "names", "instead"),
    [
        (Semaphore(1), ["release"], "permit .* releases; .* asynclocks.drop_in"),
        (Semaphore(1), ["acquire_nowait"], r"try_acquire\(\)"),
        (Semaphore(1), ["value"], "available_permits"),
        (RwLock(), ["acquire", "lock"], r"read\(\) or write\(\)"),
        (RwLock(), ["reader", "reader_lock"], r"read\(\); asynclocks.drop_in.aiorwlock"),
        (RwLock(), ["writer", "writer_lock"], r"write\(\); asynclocks.drop_in.aiorwlock"),
        (RwLock(), ["release"], "the guard"),
        (Condvar(), ["acquire", "locked", "release"], "no lock of its own.* asynclocks.drop_in"),
        (Condvar(), ["wait_for"], "wait_while"),
        (Notify(), ["notify"], r"notify_one\(\)"),
        (Notify(), ["notify_all"], r"notify_waiters\(\)"),
        (Notify(), ["clear", "is_set", "set"], "asynclocks.Event"),
        (Notify(), ["wait"], r"notified\(\)"),
        (Barrier(2), ["abort", "broken", "reset"], "asynclocks.drop_in"),
        (Barrier(2), ["n_waiting"], "use waiting"),
    ],
)
def test_a_name_of_another_library_is_absent_and_says_what_to_use(lock: Any, names: list[str], instead: str) -> None:
    """AttributeError as ever, so `hasattr` says no; its message names the way out."""
    kind = type(lock).__name__
    for name in names:
        assert not hasattr(lock, name)
        with pytest.raises(AttributeError, match=f"{kind!r} object has no attribute {name!r}: .*{instead}"):
            getattr(lock, name)


@pytest.mark.parametrize("kind", [Semaphore, RwLock, Condvar, Notify, Barrier])
def test_classes_with_absent_names_can_be_documented(kind: type) -> None:
    """Tools that look at all the names of a class pass over them."""
    assert kind.__name__ in pydoc.render_doc(kind)
