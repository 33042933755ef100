"""The library's classes have the shapes of `asynclocks.protocols`, as far as can be seen while running."""

from __future__ import annotations

import pytest

from asynclocks import ConcurrentMap, Mutex, OnceCell, RwLock, Semaphore, protocols


@pytest.mark.parametrize(
    ("lock", "shape"),
    [
        (Mutex(), protocols.Mutex),
        (RwLock(), protocols.RwLock),
        (Semaphore(1), protocols.Semaphore),
        (OnceCell(1), protocols.OnceCell),
        (ConcurrentMap(), protocols.ConcurrentMap),
    ],
)
def test_a_lock_has_its_shape_and_no_other(lock: object, shape: type) -> None:
    """By the names of the methods."""
    assert isinstance(lock, shape)
    assert not isinstance(object(), shape)


async def test_guards_have_their_shapes() -> None:
    """Each is a Guard as well."""
    mutex, lock = Mutex(0), RwLock(0)
    async with mutex.lock() as guard, lock.upgradable_read() as upgradable, lock.read() as reader:
        assert isinstance(guard, protocols.MutexGuard)
        assert isinstance(upgradable, protocols.UpgradableReadGuard)
        assert isinstance(reader, protocols.ReadGuard)
        assert all(isinstance(held, protocols.Guard) for held in (guard, upgradable, reader))
    async with lock.write() as writer:
        assert isinstance(writer, protocols.WriteGuard)
        assert isinstance(writer.map(str), protocols.MappedGuard)
    async with Semaphore(1) as permit:
        assert isinstance(permit, protocols.Permit)
    acquisition = mutex.lock()
    assert isinstance(acquisition, protocols.Acquisition)
    async with acquisition:
        pass


async def test_a_maps_guards_have_their_shapes() -> None:
    """Each is a Guard as well."""
    m = ConcurrentMap({"a": 1})
    acquisition = m.entry("a")
    assert isinstance(acquisition, protocols.Acquisition)
    async with acquisition as entry:
        assert isinstance(entry, protocols.Entry)
        assert isinstance(entry, protocols.Guard)
        assert not entry.recovered
    async with m.ref("a") as ref:
        assert isinstance(ref, protocols.Ref)
        assert isinstance(ref, protocols.Guard)
        assert not ref.recovered
