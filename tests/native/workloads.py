"""What workers do with locks, in all the ways there are, and what must hold: see `tests.native.stress`.

Each workload counts what it has done in its worker's `counts`, at once after doing it and with no chance for a
cancellation or a finalizer to come between. So at the end the sums must agree with the objects' values.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from asynclocks import (
    Mutex,
    Permit,
    ReadGuard,
    RwLock,
    Semaphore,
    TryAcquireError,
    TryLockError,
    UpgradableReadGuard,
    WriteGuard,
)
from tests.native.stress import Exclusive, Shared, Stress, Worker, is_loose
from tests.native.workers import Body, LoopWorker, ThreadWorker, Workload

BRIEF = 0.001  # seconds, a timeout that sometimes expires


def timeout_of(me: Worker) -> float | None:
    return me.random.choice([None, None, None, BRIEF, 0])


class MutexWorkload(Workload):
    """A counter in a mutex, read and written with a pause between."""

    def __init__(self, stress: Stress, name: str = "mutex") -> None:
        super().__init__(stress, name)
        self.mutex = Mutex(0, name=name)
        self.alone = Exclusive(stress, name)

    def subject(self) -> Mutex[int]:
        return self.mutex

    async def within(self, me: LoopWorker, body: Body) -> None:
        await me.random.choice(self.ways)(self, me, body)

    async def count(self, me: LoopWorker, body: Body, value: Any) -> None:
        """Read, pause, write."""
        with self.alone(me, value):
            before = value.value
            await body()
            self.stress.expect(value.value == before, f"{self}: an update was lost")
            value.value = before + 1
            me.counts[self] += 1

    async def block(self, me: LoopWorker, body: Body) -> None:
        async with self.mutex as guard:
            await self.count(me, body, guard)

    async def block_let_go_early(self, me: LoopWorker, body: Body) -> None:
        async with self.mutex as guard:
            await self.count(me, body, guard)
            guard.release()
            await me.pause()

    async def block_with_a_limit(self, me: LoopWorker, body: Body) -> None:
        async with self.mutex as guard, me.limit(me.moment()):
            await self.count(me, body, guard)

    async def acquisition(self, me: LoopWorker, body: Body) -> None:
        async with self.mutex.lock() as guard:
            await self.count(me, body, guard)

    async def loose_guard(self, me: LoopWorker, body: Body) -> None:
        with await self.mutex.lock() as guard:
            await self.count(me, body, guard)

    async def owned_guard(self, me: LoopWorker, body: Body) -> None:
        guard = await self.mutex.lock_owned()
        try:
            await self.count(me, body, guard)
        finally:
            guard.release()

    async def mapped_guard(self, me: LoopWorker, body: Body) -> None:
        async with self.mutex.lock() as guard:
            await self.count(me, body, guard)
            part = guard.map(lambda value: value)
            with self.alone(me, part):
                await me.pause()
                self.stress.expect(part.value == self.mutex._value, f"{self}: somebody wrote beside a mapped guard")

    async def spelled_as_asyncio_does(self, me: LoopWorker, body: Body) -> None:
        await self.mutex.acquire()
        try:
            with self.alone(me):
                await body()
        finally:
            self.mutex.release()

    async def try_lock(self, me: LoopWorker, body: Body) -> None:
        try:
            guard = self.mutex.try_lock()
        except TryLockError:
            return
        with guard:
            await self.count(me, body, guard)

    ways = (
        *(block,) * 4,
        block_let_go_early,
        block_with_a_limit,
        acquisition,
        loose_guard,
        owned_guard,
        mapped_guard,
        spelled_as_asyncio_does,
        try_lock,
    )

    def blocking_within(self, me: ThreadWorker, body: Callable[[], None]) -> None:
        try:
            guard = self.mutex.try_lock() if me.chance(0.5) else self.mutex.blocking_lock(timeout_of(me))
        except (TryLockError, TimeoutError):
            return
        with guard, self.alone(me):
            before = guard.value
            body()
            guard.value = before + 1
            me.counts[self] += 1

    def check_at_the_end(self) -> None:
        assert self.mutex.into_inner() == self.stress.total(self)


class RwLockWorkload(Workload):
    """A counter that readers look at while writers write it, some of them by way of an upgrade."""

    def __init__(self, stress: Stress, name: str = "rwlock", max_readers: int = 5) -> None:
        super().__init__(stress, name)
        self.lock = RwLock(0, name=name, max_readers=max_readers)
        self.inside = Shared(stress, name)

    def subject(self) -> RwLock[int]:
        return self.lock

    async def within(self, me: LoopWorker, body: Body) -> None:
        await me.random.choice(self.ways)(self, me, body)

    async def look(self, me: LoopWorker, body: Body, guard: ReadGuard[int] | UpgradableReadGuard[int]) -> None:
        with self.inside.reading(me, guard):
            before = guard.value
            await body()
            self.stress.expect(guard.value == before, f"{self}: somebody wrote beside a reader")

    async def count(self, me: LoopWorker, body: Body, guard: WriteGuard[int]) -> None:
        with self.inside.writing(me, guard):
            self.inside.nobody_reads()
            before = guard.value
            await body()
            self.inside.nobody_reads()
            self.stress.expect(guard.value == before, f"{self}: an update was lost")
            guard.value = before + 1
            me.counts[self] += 1

    async def read_block(self, me: LoopWorker, body: Body) -> None:
        async with self.lock.read() as guard:
            await self.look(me, body, guard)

    async def read_loose(self, me: LoopWorker, body: Body) -> None:
        with await self.lock.read() as guard:
            await self.look(me, body, guard)

    async def read_and_let_go_early(self, me: LoopWorker, body: Body) -> None:
        async with self.lock.read() as guard:
            await self.look(me, body, guard)
            guard.release()
            await me.pause()

    async def write_block(self, me: LoopWorker, body: Body) -> None:
        async with self.lock.write() as guard:
            await self.count(me, body, guard)

    async def write_owned(self, me: LoopWorker, body: Body) -> None:
        with await self.lock.write_owned() as guard:
            await self.count(me, body, guard)

    async def downgrade(self, me: LoopWorker, body: Body) -> None:
        async with self.lock.write() as guard:
            await self.count(me, body, guard)
            seen = guard.value
            reader = guard.downgrade() if me.chance(0.5) else guard.downgrade_to_upgradable()
            self.stress.expect(reader.value == seen, f"{self}: a writer came in between at a downgrade")
            await self.look(me, me.pause, reader)

    async def upgrade(self, me: LoopWorker, body: Body) -> None:
        async with self.lock.upgradable_read() as guard:
            await self.look(me, body, guard)
            seen = guard.value
            async with guard.upgrade() as writer:
                self.stress.expect(writer.value == seen, f"{self}: a writer came in between at an upgrade")
                await self.count(me, me.pause, writer)
                await self.look(me, me.pause, writer.downgrade())

    async def try_to_upgrade(self, me: LoopWorker, body: Body) -> None:
        with await self.lock.upgradable_read() as guard:
            await self.look(me, body, guard)
            try:
                writer = guard.try_upgrade()
            except TryLockError:
                await self.look(me, me.pause, guard)
            else:
                await self.count(me, me.pause, writer)

    async def give_up_an_upgrade(self, me: LoopWorker, body: Body) -> None:
        async with self.lock.upgradable_read() as guard:
            await self.look(me, body, guard)
            async with me.limit(me.moment()):
                with await guard.upgrade() as writer:
                    await self.count(me, me.pause, writer)
            if not guard.released:
                await self.look(me, me.pause, guard)

    ways = (
        *(read_block,) * 3,
        read_loose,
        read_and_let_go_early,
        write_block,
        write_owned,
        downgrade,
        upgrade,
        try_to_upgrade,
        give_up_an_upgrade,
    )

    def blocking_within(self, me: ThreadWorker, body: Callable[[], None]) -> None:
        lock, timeout = self.lock, timeout_of(me)
        way = me.random.randrange(6)
        with suppress(TryLockError, TimeoutError):
            if way < 3:
                with lock.try_read() if way == 0 else lock.blocking_read(timeout) as reader, self.inside.reading(me):
                    before = reader.value
                    body()
                    self.stress.expect(reader.value == before, f"{self}: somebody wrote beside a reader")
            elif way < 5:
                with lock.try_write() if way == 3 else lock.blocking_write(timeout) as writer:
                    self.blocking_count(me, body, writer)
            else:
                with lock.blocking_upgradable_read(timeout) as guard:
                    with self.inside.reading(me):
                        body()
                    self.blocking_count(me, me.pause, guard.try_upgrade())

    def blocking_count(self, me: ThreadWorker, body: Callable[[], None], guard: WriteGuard[int]) -> None:
        with self.inside.writing(me):
            self.inside.nobody_reads()
            before = guard.value
            body()
            guard.value = before + 1
            self.inside.nobody_reads()
            me.counts[self] += 1

    def check_at_the_end(self) -> None:
        assert self.lock.into_inner() == self.stress.total(self)


class _Use:
    """Some permits, while they are in use."""

    __slots__ = ("guarded", "me", "of", "permits")

    def __init__(self, of: SemaphoreWorkload, me: Worker, permit: Permit, permits: int) -> None:
        self.of = of
        self.me = me
        self.permits = permits
        self.guarded = is_loose(permit)

    def __enter__(self) -> None:
        of = self.of
        of.in_use[self] = None
        in_use = sum(use.permits for use in of.in_use.copy() if not (use.guarded and use.me.is_gone))
        of.stress.expect(in_use <= of.permits, f"{of}: {in_use} of {of.permits} permits in use")

    def __exit__(self, *exc: object) -> None:
        del self.of.in_use[self]


class SemaphoreWorkload(Workload):
    """Never more permits in use than there are."""

    def __init__(self, stress: Stress, name: str = "semaphore", permits: int = 5) -> None:
        super().__init__(stress, name)
        self.semaphore = Semaphore(permits, name=name)
        self.permits = permits
        self.in_use: dict[_Use, None] = {}

    def subject(self) -> Semaphore:
        return self.semaphore

    def using(self, me: Worker, permit: Permit, permits: int) -> _Use:
        return _Use(self, me, permit, permits)

    async def within(self, me: LoopWorker, body: Body) -> None:
        await me.random.choice(self.ways)(self, me, body)

    async def block(self, me: LoopWorker, body: Body) -> None:
        async with self.semaphore as permit:
            with self.using(me, permit, 1):
                await body()

    async def block_let_go_early(self, me: LoopWorker, body: Body) -> None:
        async with self.semaphore as permit:
            with self.using(me, permit, 1):
                await body()
            permit.release()
            await me.pause()

    async def several(self, me: LoopWorker, body: Body) -> None:
        permits = me.random.randrange(self.permits + 1)
        async with self.semaphore.acquire(permits) as permit:
            with self.using(me, permit, permits):
                await body()

    async def loose(self, me: LoopWorker, body: Body) -> None:
        with await self.semaphore.acquire(2) as permit, self.using(me, permit, 2):
            await body()

    async def split_and_merge(self, me: LoopWorker, body: Body) -> None:
        async with self.semaphore.acquire(3) as permit:
            with self.using(me, permit, 3):
                await body()
                part = permit.split(2)
                rest = part.split(1)
                await me.pause()
                permit.merge(rest)
            with self.using(me, permit, 2):
                part.release()
                await me.pause()

    async def split_a_block(self, me: LoopWorker, body: Body) -> None:
        async with self.semaphore as permit:
            with self.using(me, permit, 1):
                await body()
                permit.split(1)
                await me.pause()

    async def try_acquire(self, me: LoopWorker, body: Body) -> None:
        try:
            permit = self.semaphore.try_acquire(2)
        except TryAcquireError:
            return
        with permit, self.using(me, permit, 2):
            await body()

    ways = (*(block,) * 4, block_let_go_early, several, several, loose, split_and_merge, split_a_block, try_acquire)

    def blocking_within(self, me: ThreadWorker, body: Callable[[], None]) -> None:
        permits = me.random.randrange(self.permits + 1)
        semaphore = self.semaphore
        try:
            permit = (
                semaphore.try_acquire(permits)
                if me.chance(0.5)
                else semaphore.blocking_acquire(permits, timeout_of(me))
            )
        except (TryAcquireError, TimeoutError):
            return
        with permit, self.using(me, permit, permits):
            body()

    def check_at_the_end(self) -> None:
        assert self.semaphore.available_permits == self.permits
        self.semaphore.try_acquire(self.permits).release()


class NestedWorkload(Workload):
    """Some of the other workloads' locks inside each other, always in the same order, so nobody deadlocks."""

    def __init__(self, stress: Stress, inner: list[Workload], name: str = "nested") -> None:
        self.inner = inner
        super().__init__(stress, name)

    def state(self) -> str:
        return f"{self.name}: {', '.join(map(str, self.inner))}"

    async def within(self, me: LoopWorker, body: Body) -> None:
        for workload in reversed(self.chosen(me)):
            body = partial(workload.within, me, body)
        await body()

    def blocking_within(self, me: ThreadWorker, body: Callable[[], None]) -> None:
        for workload in reversed(self.chosen(me)):
            body = partial(workload.blocking_within, me, body)
        body()

    def chosen(self, me: Worker) -> list[Workload]:
        return [workload for workload in self.inner if me.chance(0.4)]

    def check_at_the_end(self) -> None:
        """The others do."""


class FamilyWorkload(NestedWorkload):
    """A task holds one lock and waits for its children, who take others."""

    def __init__(self, stress: Stress, inner: list[Workload], name: str = "family") -> None:
        super().__init__(stress, inner, name)
        self.outer = MutexWorkload(stress, f"{name}'s mutex")

    async def turn(self, me: LoopWorker) -> None:
        children = [partial(self.within, me, me.pause)] * me.random.randrange(1, 4)
        await self.outer.within(me, partial(me.together, *children))
