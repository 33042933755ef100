"""What workers do with a Condvar, a Notify and a Barrier: as in `tests.native.workloads`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from asynclocks import Barrier, Condvar, Mutex, MutexGuard, Notify
from tests.native.stress import Exclusive, Stress, Worker
from tests.native.workers import Body, LoopWorker, ThreadWorker, Workload
from tests.native.workloads import timeout_of


class CondvarWorkload(Workload):
    """Producers and consumers: nothing is lost, nothing comes twice."""

    MOST_HUNGRY = 15  # consumers who wait at once, so that there is always somebody left to produce
    MOST_ITEMS = 50
    PRODUCED, CONSUMED, SUM_IN, SUM_OUT = object(), object(), object(), object()

    def __init__(self, stress: Stress, name: str = "condvar", *, counts_wakes: bool = False) -> None:
        super().__init__(stress, name)
        self.counts_wakes = counts_wakes  # which says nothing while loops are closed with consumers in them
        self.queue: Mutex[deque[int]] = Mutex(deque(), name=f"{name}'s queue")
        self.arrived = Condvar()
        self.alone = Exclusive(stress, f"{name}'s queue")
        self.hungry: dict[object, None] = {}

    def subject(self) -> Condvar:
        return self.arrived

    def state(self) -> str:
        queue = self.queue
        return f"{super().state()}; {queue!r} {queue.statistics()} with {len(queue._value)} in it"

    def choose(self, me: Worker, queue: deque[int]) -> str:
        """What to do: produce, consume, or leave it to those who wait."""
        if self.counts_wakes:
            self.check_wakes(queue)
        if len(queue) >= self.MOST_ITEMS:
            return "consume"
        if len(self.hungry) >= self.MOST_HUNGRY:
            return "produce"
        if queue and self.arrived.statistics().waiting:  # taking what is theirs would hide that a wake-up was lost
            return "produce" if me.chance(0.2) else "leave it"
        return "produce" if me.chance(0.4) else "consume"

    def check_wakes(self, queue: deque[int]) -> None:
        """While one waits and was not notified, there is at most one item for each that was."""
        hungry = len(self.hungry)  # first: who leaves the condvar meanwhile is still hungry
        waiting = self.arrived.statistics().waiting
        notified = hungry - waiting
        fault = f"{self}: {waiting} wait beside {len(queue)} items, and {notified} were notified"
        self.stress.expect(waiting == 0 or len(queue) <= notified, fault)

    def is_empty(self, queue: deque[int]) -> bool:
        return not queue and not self.stress.stopping

    async def within(self, me: LoopWorker, body: Body) -> None:
        lock = self.queue if me.chance(0.5) else self.queue.lock()
        async with lock as guard:
            with self.alone(me, guard):
                await body()
                choice = self.choose(me, guard.value)
                if choice == "produce":
                    self.produce(me, guard)
            if choice == "consume":
                await self.consume(me, guard)

    async def consume(self, me: LoopWorker, guard: MutexGuard[deque[int]]) -> None:
        mine = object()
        self.hungry[mine] = None
        try:
            async with me.limit(me.moment() if me.chance(0.3) else math.inf):
                await self.arrived.wait_while(guard, self.is_empty)
        except GeneratorExit:  # the only one that leaves without the mutex
            raise
        except BaseException:
            with self.alone(me, guard):
                pass
            raise
        finally:
            del self.hungry[mine]
        with self.alone(me, guard):
            self.take(me, guard)
            await me.pause()

    def blocking_within(self, me: ThreadWorker, body: Callable[[], None]) -> None:
        mine = object()
        with self.queue.blocking_lock() as guard:
            with self.alone(me):
                body()
                choice = self.choose(me, guard.value)
                if choice == "produce":
                    self.produce(me, guard)
            if choice == "consume":
                self.hungry[mine] = None
                try:
                    with suppress(TimeoutError):
                        while self.is_empty(guard.value):
                            self.arrived.blocking_wait(guard, timeout_of(me))
                finally:
                    del self.hungry[mine]
                with self.alone(me):
                    self.take(me, guard)

    def produce(self, me: Worker, guard: MutexGuard[deque[int]]) -> None:
        item = me.random.getrandbits(64)
        guard.value.append(item)
        me.counts[self.PRODUCED] += 1
        me.counts[self.SUM_IN] += item
        if me.chance(0.9):
            self.arrived.notify_one()
        else:
            self.arrived.notify_all()

    def take(self, me: Worker, guard: MutexGuard[deque[int]]) -> None:
        if guard.value:  # it is empty at the end of the run, and after a timeout
            me.counts[self.SUM_OUT] += guard.value.popleft()
            me.counts[self.CONSUMED] += 1

    def nudge(self) -> None:
        self.arrived.notify_all()

    def check_at_the_end(self) -> None:
        assert self.arrived.statistics().waiting == 0
        left = self.queue.into_inner()
        total = self.stress.total
        assert total(self.PRODUCED) == total(self.CONSUMED) + len(left)
        assert total(self.SUM_IN) == total(self.SUM_OUT) + sum(left)


class NotifyWorkload(Workload):
    """One wake-up goes round. Lost, it leaves everybody waiting; doubled, it lets in two."""

    def __init__(self, stress: Stress, name: str = "notify") -> None:
        super().__init__(stress, name)
        self.notify = Notify()
        self.notify.notify_one()
        self.alone = Exclusive(stress, name)
        self.to_pass_on: deque[None] = deque()  # by threads: notify_one is called from outside any loop

    def subject(self) -> Notify:
        return self.notify

    async def within(self, me: LoopWorker, body: Body) -> None:
        newest, elsewhere = me.chance(0.1), me.chance(0.2)
        notified = self.notify.notified()
        enabled = me.chance(0.3)
        if not (enabled and notified.enable()):  # else the wake-up is used
            if enabled:
                await me.pause()
                if me.chance(0.3):
                    return  # dropped enabled: it forwards the wake-up that it got meanwhile
                if me.chance(0.3):
                    notified.cancel()
                    return
            await notified
        try:
            with self.alone(me):
                await body()
        finally:
            if elsewhere and not self.stress.stopping:
                self.to_pass_on.append(None)
            elif newest:
                self.notify.notify_last()
            else:
                self.notify.notify_one()

    def blocking_within(self, me: ThreadWorker, body: Callable[[], None]) -> None:
        self.nudge()
        notified = self.notify.notified()
        if notified.enable():
            with self.alone(me):
                body()
            self.notify.notify_one()
        elif me.chance(0.5):
            body()
            notified.cancel()

    def nudge(self) -> None:
        with suppress(IndexError):
            self.to_pass_on.popleft()
            self.notify.notify_one()

    def check_at_the_end(self) -> None:
        self.nudge()
        statistics = self.notify.statistics()
        assert statistics.stored
        assert statistics.waiting == 0


class BarrierWorkload(Workload):
    """Some meet, some give up. Rounds are counted in test_parallel.py, where nobody leaves."""

    def __init__(self, stress: Stress, name: str = "barrier", parties: int = 3) -> None:
        super().__init__(stress, name)
        self.barrier = Barrier(parties)

    def subject(self) -> Barrier:
        return self.barrier

    async def within(self, me: LoopWorker, body: Body) -> None:
        async with me.limit(me.random.choice([0.002, 0.5])):
            await self.barrier.wait()
            await body()

    def blocking_within(self, me: ThreadWorker, body: Callable[[], None]) -> None:
        self.stress.expect(self.barrier.waiting < self.barrier.parties, f"{self}: everybody is there, and waits")
        body()

    def check_at_the_end(self) -> None:
        assert self.barrier.waiting == 0
