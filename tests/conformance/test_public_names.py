"""Nothing private shows: neither in messages nor in docs nor in signatures."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from unittest import mock

import pytest

import asynclocks
from asynclocks import Acquisition, ConcurrentMap, Mutex, RwLock, Semaphore
from tests.support import collect

PRIVATE = ("Loose", "Block", "Nested", "Ticket", "Deadline", "_engine")


async def test_guards_have_their_public_names_however_they_were_acquired() -> None:
    """In the repr, in what an attribute error says, and as their type's name."""
    mutex, rwlock, semaphore, mapping = Mutex(0), RwLock(0), Semaphore(9), ConcurrentMap({1: 1})
    guards: dict[str, list[object]] = {
        name: [] for name in ("MutexGuard", "ReadGuard", "WriteGuard", "Permit", "Entry")
    }
    guards["UpgradableReadGuard"] = []
    async with mutex as guard, semaphore as permit, semaphore as nested:
        guards["MutexGuard"].append(guard)
        guards["Permit"] += [permit, nested]
    for acquisition, name in (
        (mutex.lock(), "MutexGuard"),
        (rwlock.read(), "ReadGuard"),
        (rwlock.write(), "WriteGuard"),
        (rwlock.write_owned(), "WriteGuard"),
        (rwlock.upgradable_read(), "UpgradableReadGuard"),
        (semaphore.acquire(), "Permit"),
        (mapping.entry(1), "Entry"),
    ):
        async with acquisition as guard:
            guards[name].append(guard)
    for take, name in (
        (mutex.try_lock, "MutexGuard"),
        (rwlock.try_read, "ReadGuard"),
        (rwlock.try_write, "WriteGuard"),
        (rwlock.try_upgradable_read, "UpgradableReadGuard"),
        (semaphore.try_acquire, "Permit"),
        (lambda: mapping.try_entry(2), "Entry"),
    ):
        with take() as guard:  # type: ignore[operator]
            guards[name].append(guard)
    for name, kinds in guards.items():
        for guard in kinds:
            assert type(guard).__name__ == name
            with pytest.raises(AttributeError, match=f"^'{name}' object has no attribute 'nonsense'$"):
                _ = guard.nonsense  # type: ignore[attr-defined]
            assert name == "Permit" or repr(guard).startswith(f"<{name} of ")


def test_the_warning_of_a_dropped_guard_names_what_is_public() -> None:
    """As its repr does."""
    mutex = Mutex(name="m")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        mutex.try_lock()
        collect()
    assert str(seen[0].message).startswith("MutexGuard of Mutex 'm' was dropped unreleased")


@pytest.mark.parametrize("name", asynclocks.__all__)
def test_docs_and_signatures_name_what_is_public(name: str) -> None:
    """Of everything that is exported, and its methods."""
    public = getattr(asynclocks, name)
    members = [public]
    if isinstance(public, type):
        members += [value for key, value in vars(public).items() if not key.startswith("_")]
    for member in members:
        told = inspect.getdoc(member) or ""
        if inspect.isfunction(member):
            told += str(inspect.signature(member))
        assert not [word for word in PRIVATE if word in told.replace("WouldBlock", "")], member


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (Mutex.lock, "(self, timeout=None)"),
        (Mutex.acquire, "(self, timeout=None)"),
        (Mutex.acquire_nowait, "(self)"),
        (Mutex.release, "(self)"),
        (Mutex.try_lock, "(self)"),
        (Mutex.__aenter__, "(self)"),
        (Semaphore.acquire, "(self, permits=1, timeout=None)"),
        (Semaphore.try_acquire, "(self, permits=1)"),
        (Acquisition.__aexit__, "(self, exc_type=None, exc=None, traceback=None)"),
    ],
)
def test_methods_tell_their_parameters(method: Callable[..., object], parameters: str) -> None:
    """`inspect.signature` finds them, and so do help() and dependency injection."""
    signature = inspect.signature(method)
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty, kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for parameter in signature.parameters.values()
    ]
    assert str(inspect.Signature(plain)) == parameters


async def test_a_mock_made_from_a_mutex_is_awaited_as_the_mutex_is() -> None:
    """`acquire` is known for a coroutine function."""
    assert inspect.iscoroutinefunction(Mutex.acquire)
    assert inspect.iscoroutinefunction(Mutex().acquire)
    mutex = mock.create_autospec(Mutex, instance=True)
    await mutex.acquire()
    async with mutex:
        mutex.release()
    mutex.acquire.assert_awaited_once_with()
