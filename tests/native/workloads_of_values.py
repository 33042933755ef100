"""What workers do with a OnceCell and a ConcurrentMap: as in `tests.native.workloads`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from asynclocks import ConcurrentMap, KeyLockedError, OnceCell, SetError
from tests.native.stress import Exclusive, Shared, Stress, Worker
from tests.native.workers import Body, LoopWorker, ThreadWorker, Workload
from tests.native.workloads import BRIEF, timeout_of

MADE, TAKEN = "made", "taken"  # what is counted, for each workload


class Made:
    """A value that an initializer made."""

    def __init__(self) -> None:
        self.takers: list[Worker] = []

    def take(self, me: Worker, stress: Stress) -> None:
        self.takers.append(me)
        stress.expect(self.takers == [me], f"taken twice: {self.takers}")


class FailedError(Exception):
    """What an initializer raises now and then."""


async def make(me: LoopWorker, of: Workload, alone: Exclusive, body: Body) -> Made:
    """The initializer on a loop."""
    with alone(me):
        await body()
        return made(me, of)


def make_blocking(me: ThreadWorker, of: Workload, alone: Exclusive, body: Callable[[], None]) -> Made:
    """The initializer in a plain thread."""
    with alone(me):
        body()
        return made(me, of)


def made(me: Worker, of: Workload) -> Made:
    if me.chance(0.1):
        raise FailedError
    me.counts[of, MADE] += 1
    return Made()


class OnceCellWorkload(Workload):
    """A cell that is filled once each time it was emptied, by one initializer at a time."""

    def __init__(self, stress: Stress, name: str = "once") -> None:
        super().__init__(stress, name)
        self.cell: OnceCell[Made] = OnceCell()
        self.alone = Exclusive(stress, f"the initializer of {name}")

    def subject(self) -> OnceCell[Made]:
        return self.cell

    async def within(self, me: LoopWorker, body: Body) -> None:
        with suppress(FailedError):
            way = me.random.randrange(10)
            if way < 8:
                check_made(self.stress, await self.cell.get_or_init(partial(make, me, self, self.alone, body)))
            elif way == 8:
                async with me.limit(BRIEF):  # nobody promises to fill it
                    check_made(self.stress, await self.cell.wait())
            else:
                self.set(me)
        if me.chance(0.5):
            self.take(me)

    def blocking_within(self, me: ThreadWorker, body: Callable[[], None]) -> None:
        with suppress(FailedError, TimeoutError):
            if me.chance(0.9):
                init = partial(make_blocking, me, self, self.alone, body)
                check_made(self.stress, self.cell.blocking_get_or_init(init, timeout_of(me)))
            else:
                self.set(me)
        if me.chance(0.5):
            self.take(me)

    def set(self, me: Worker) -> None:
        with suppress(SetError):
            self.cell.set(Made())
            me.counts[self, MADE] += 1

    def take(self, me: Worker) -> None:
        try:
            value = self.cell.take()
        except LookupError:
            return
        me.counts[self, TAKEN] += 1
        value.take(me, self.stress)

    def check_at_the_end(self) -> None:
        statistics = self.cell.statistics()
        assert not statistics.initializing
        assert not statistics.waiting
        left = self.stress.total((self, MADE)) - self.stress.total((self, TAKEN))
        assert left == statistics.initialized


def check_made(stress: Stress, value: object) -> None:
    stress.expect(isinstance(value, Made), f"no initializer made {value!r}")


class KeysWorkload(Workload):
    """Counters in a map, by entry, compute and alter; refs that see nobody write; iteration while keys come and go."""

    KEYS = ("red", "green", "blue")

    def __init__(self, stress: Stress, name: str = "map") -> None:
        super().__init__(stress, name)
        self.map = ConcurrentMap(dict.fromkeys(self.KEYS, 0))
        self.inside = {key: Shared(stress, f"{name}[{key!r}]") for key in self.KEYS}
        self.counted = {key: object() for key in self.KEYS}

    def subject(self) -> ConcurrentMap[str, int]:
        return self.map

    async def within(self, me: LoopWorker, body: Body) -> None:
        await me.random.choice(self.ways)(self, me, body, me.random.choice(self.KEYS))

    async def count(self, me: LoopWorker, body: Body, key: str, entry: Any) -> None:
        inside = self.inside[key]
        with inside.writing(me, entry):
            inside.nobody_reads()
            before = entry.value
            await body()
            inside.nobody_reads()
            self.stress.expect(entry.value == self.map[key] == before, f"{self}: an update of {key!r} was lost")
            entry.value = before + 1

    async def entry_block(self, me: LoopWorker, body: Body, key: str) -> None:
        async with self.map.entry(key) as entry:
            await self.count(me, body, key, entry)
        me.counts[self.counted[key]] += 1  # committed by the block's end

    async def loose_entry(self, me: LoopWorker, body: Body, key: str) -> None:
        with await self.map.entry(key) as entry:
            await self.count(me, body, key, entry)
        me.counts[self.counted[key]] += 1

    async def entry_let_go_early(self, me: LoopWorker, body: Body, key: str) -> None:
        async with self.map.entry(key) as entry:
            await self.count(me, body, key, entry)
            entry.release()
            me.counts[self.counted[key]] += 1
            await me.pause()

    async def entry_that_is_rolled_back(self, me: LoopWorker, body: Body, key: str) -> None:
        with suppress(FailedError):
            async with self.map.entry(key) as entry:
                await self.count(me, body, key, entry)
                raise FailedError

    async def compute(self, me: LoopWorker, body: Body, key: str) -> None:
        async def change(value: int | None) -> int:
            assert value is not None
            with self.inside[key].writing(me, loose=True):  # the map has the entry
                await body()
                return value + 1

        await self.map.compute(key, change)
        me.counts[self.counted[key]] += 1

    async def ref(self, me: LoopWorker, body: Body, key: str) -> None:
        async with self.map.ref(key) as ref:
            with self.inside[key].reading(me, ref):
                before = ref.value
                await body()
                self.stress.expect(ref.value == before, f"{self}: somebody wrote {key!r} beside a ref")

    async def without_waiting(self, me: LoopWorker, body: Body, key: str) -> None:
        await body()
        self.try_something(me, key, lambda: None)

    async def iterate(self, me: LoopWorker, body: Body, key: str) -> None:
        seen = []
        for name, value in self.map.items():
            seen.append(name)
            self.stress.expect(name not in self.KEYS or self.map[name] >= value, f"{self}: {name!r} went backwards")
            await me.pause()
        self.check_keys(seen)

    ways = (
        *(entry_block,) * 3,
        loose_entry,
        entry_let_go_early,
        entry_that_is_rolled_back,
        compute,
        ref,
        ref,
        without_waiting,
        iterate,
    )

    def blocking_within(self, me: ThreadWorker, body: Callable[[], None]) -> None:
        key = me.random.choice(self.KEYS)
        if me.chance(0.5):
            self.try_something(me, key, body)
            return
        with suppress(TimeoutError):
            with self.map.blocking_entry(key, timeout_of(me)) as entry:
                self.blocking_count(me, key, body, entry)
            me.counts[self.counted[key]] += 1

    def try_something(self, me: Worker, key: str, body: Callable[[], None]) -> None:
        way = me.random.randrange(6)
        with suppress(KeyLockedError):
            if way == 0:
                self.map.alter(key, lambda value: value + 1)
                me.counts[self.counted[key]] += 1
            elif way == 1:
                with self.map.try_entry(key) as entry:
                    self.blocking_count(me, key, body, entry)
                me.counts[self.counted[key]] += 1
            elif way == 2:
                with self.map.try_ref(key) as ref, self.inside[key].reading(me):
                    before = ref.value
                    body()
                    self.stress.expect(ref.value == before, f"{self}: somebody wrote {key!r} beside a ref")
            elif way == 3:
                self.check_keys([name for name in self.map if body() is None])
            elif way == 4:
                name = f"number {me.random.randrange(100)}"
                if self.map.pop(name, None) is None:
                    self.map[name] = 0
            else:
                before = self.map.snapshot()
                now = self.map.snapshot()
                self.stress.expect(all(now[name] >= before[name] for name in self.KEYS), f"{self}: {before} then {now}")

    def check_keys(self, seen: list[str]) -> None:
        """Others come and go while somebody iterates; these are there all the time, in their order."""
        kept = [name for name in seen if name in self.KEYS]
        self.stress.expect(kept == [*self.KEYS], f"{self}: iterating gave {seen}")
        self.stress.expect(len({*seen}) == len(seen), f"{self}: iterating gave a key twice: {seen}")

    def blocking_count(self, me: Worker, key: str, body: Callable[[], None], entry: Any) -> None:
        inside = self.inside[key]
        with inside.writing(me):
            inside.nobody_reads()
            before = entry.value
            body()
            inside.nobody_reads()
            entry.value = before + 1

    def check_at_the_end(self) -> None:
        assert self.map.statistics().locked_keys == 0
        assert self.map.statistics().waiting == 0
        left = self.map.snapshot()
        assert {key: left[key] for key in self.KEYS} == {
            key: self.stress.total(counted) for key, counted in self.counted.items()
        }


class FlightsWorkload(Workload):
    """Keys that one run of an ``init`` fills for all who ask, and that are removed again."""

    KEYS = ("left", "right")

    def __init__(self, stress: Stress, name: str = "flights") -> None:
        super().__init__(stress, name)
        self.map: ConcurrentMap[str, Made] = ConcurrentMap()
        self.alone = {key: Exclusive(stress, f"the init of {name}[{key!r}]") for key in self.KEYS}

    def subject(self) -> ConcurrentMap[str, Made]:
        return self.map

    async def within(self, me: LoopWorker, body: Body) -> None:
        key = me.random.choice(self.KEYS)
        with suppress(FailedError):
            value = await self.map.get_or_insert_with(key, partial(make, me, self, self.alone[key], body))
            check_made(self.stress, value)
        if me.chance(0.5):
            self.remove(me, key)

    def blocking_within(self, me: ThreadWorker, body: Callable[[], None]) -> None:
        key = me.random.choice(self.KEYS)
        init = partial(make_blocking, me, self, self.alone[key], body)
        with suppress(FailedError, TimeoutError):
            check_made(self.stress, self.map.blocking_get_or_insert_with(key, init, timeout_of(me)))
        if me.chance(0.5):
            self.remove(me, key)

    def remove(self, me: Worker, key: str) -> None:
        try:
            value = self.map.remove(key, None)
        except KeyLockedError:
            return
        if value is not None:
            me.counts[self, TAKEN] += 1
            value.take(me, self.stress)

    def check_at_the_end(self) -> None:
        assert self.map.statistics().locked_keys == 0
        assert self.map.statistics().waiting == 0
        assert self.stress.total((self, MADE)) - self.stress.total((self, TAKEN)) == len(self.map)
