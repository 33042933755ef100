"""The Worker of the scenarios: requests that take one thing, by paths like ``/take?what=mutex&name=A&hold=0.3``.

It needs no SDK: `on_fetch` gets and returns JavaScript's own objects.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import js
from pyodide.ffi import run_sync

from asynclocks import ConcurrentMap, Mutex, OnceCell, RwLock, Semaphore
from asynclocks.backends.workers import platform

log: list[str] = []  # who took and gave what, in order
kept: list[asyncio.Task[None]] = []  # background tasks


class Shared:
    """What the requests contend for: module-level objects of a Worker."""

    def __init__(self) -> None:
        self.asyncio = asyncio.Lock()
        self.mutex = Mutex(0, name="shared")
        self.rwlock = RwLock(0, name="shared")
        self.semaphore = Semaphore(1, name="shared")
        self.once: OnceCell[str] = OnceCell()
        self.map: ConcurrentMap[str, str] = ConcurrentMap()
        self.gate_is_open = False

    def waiting(self) -> dict[str, int]:
        rwlock = self.rwlock.statistics()
        return {
            "asyncio": len(self.asyncio._waiters or ()),
            "mutex": self.mutex.statistics().waiting,
            "rwlock": rwlock.waiting_writers + rwlock.waiting_readers,
            "semaphore": self.semaphore.statistics().waiting,
            "once": self.once.statistics().waiting,
            "map": self.map.statistics().waiting,
        }


shared = Shared()


@asynccontextmanager
async def taken(what: str, name: str, hold: float, gate: bool = False) -> AsyncIterator[dict[str, Any]]:
    """Take it and hold it for some seconds, from when the gate is open.

    For `once` and `map` that is to make the value, or to be given it.
    """

    async def make() -> str:
        log.append(f"{name} took")
        while gate and not shared.gate_is_open:  # noqa: ASYNC110 - an Event would wake it in another's context
            await asyncio.sleep(0.005)
        await asyncio.sleep(hold)
        log.append(f"{name} gave")
        return name

    if what == "once":
        yield {"value": await shared.once.get_or_init(make)}
    elif what == "map":
        yield {"value": await shared.map.get_or_insert_with("key", make)}
    else:
        locks: dict[str, Callable[[], Any]] = {"rwlock": shared.rwlock.write}
        async with locks[what]() if what in locks else getattr(shared, what) as guard:
            await make()
            yield {"recovered": getattr(guard, "recovered", None)}


async def take(
    request: Any, *, what: str, name: str, hold: str = "0", gate: str = "", linger: str = "0", keep: str = "0"
) -> Any:
    if float(keep):  # something pending of this request's own
        js.setTimeout(js.Function.prototype, float(keep) * 1000)
    async with taken(what, name, float(hold), bool(gate)) as found:
        found["body"] = await request.text()  # works in the request's own context only
        await asyncio.sleep(0.005)
    await asyncio.sleep(float(linger)) if float(linger) else None
    return found


async def background(request: Any, *, what: str, name: str, hold: str, gate: str) -> Any:
    """Answer while a task still holds."""

    async def work() -> None:
        async with taken(what, name, float(hold), bool(gate)):
            pass

    kept.append(asyncio.create_task(work()))
    await asyncio.sleep(0)  # it takes
    return {}


async def state(request: Any) -> Any:
    callbacks = [made.cache_info().currsize for made in (platform._on_message, platform._on_heartbeat)]
    left = {"requests": len(platform.monitor.requests), "callbacks": sum(callbacks)}
    return {"log": log, "waiting": shared.waiting(), "left": left}


async def reset(request: Any) -> Any:
    global shared
    shared = Shared()
    log.clear()
    kept.clear()
    return {}


async def open_gate(request: Any) -> Any:
    shared.gate_is_open = True
    return {}


async def blocking(request: Any, *, what: str, name: str) -> Any:
    """Take the mutex in a plain function."""
    assert what == "mutex"

    def take() -> bool:
        with shared.mutex.blocking_lock(timeout=5) as guard:
            log.append(f"{name} took")
            return guard.recovered

    return {"recovered": take(), "body": await request.text()}


async def hold_blocking(request: Any, *, name: str, hold: str) -> Any:
    """Hold the mutex in a plain function."""

    def take() -> None:
        with shared.mutex.blocking_lock():
            log.append(f"{name} took")
            run_sync(asyncio.sleep(float(hold)))
            log.append(f"{name} gave")

    take()
    return {}


async def together(request: Any, *, name: str, what: str, tasks: str, rounds: str) -> Any:
    """Tasks of one request contend."""

    async def work() -> None:
        for _ in range(int(rounds)):
            async with taken(what, name, 0):
                pass

    await asyncio.gather(*(work() for _ in range(int(tasks))))
    return {"body": await request.text()}


async def leases(request: Any, *, alone: str) -> Any:
    """How often this request takes a lease: by several tasks, after one that takes something `alone` or without."""
    counted = []
    find = platform._wait_until
    platform._wait_until = lambda: lambda promise: (counted.append(promise), find()(promise))
    try:
        for _ in range(int(alone)):
            async with shared.mutex:
                await asyncio.sleep(0)
        await together(request, name="A", what="mutex", tasks="3", rounds="2")
    finally:
        platform._wait_until = find
    return {"leases": len(counted)}


async def without_sdk(request: Any) -> Any:
    """Is `waitUntil` found where only the runtime's own module offers it?"""
    hidden = {name: sys.modules.pop(name, None) for name in ["workers"]}
    sys.modules["workers"] = None  # type: ignore[assignment]  # importing it fails
    try:
        found = platform._wait_until.__wrapped__()
    finally:
        sys.modules.update({name: module for name, module in hidden.items() if module is not None})
    return {"found": found is not None}


async def room(request: Any, *, env: Any, path: str) -> Any:
    """Ask the Durable Object."""
    stub = env.Room.get(env.Room.idFromName("the one"))
    answer = await stub.fetch(f"http://room{path}?{urlsplit(request.url).query}", method="POST", body=request.body)
    return json.loads(await answer.text())


async def compute(request: Any, *, rounds: str) -> Any:
    """Keep the whole isolate busy."""
    sum(range(int(rounds)))
    return {}


HANDLERS: dict[str, Callable[..., Awaitable[Any]]] = {
    "/take": take,
    "/background": background,
    "/state": state,
    "/open": open_gate,
    "/reset": reset,
    "/compute": compute,
    "/blocking": blocking,
    "/hold_blocking": hold_blocking,
    "/together": together,
    "/leases": leases,
    "/without_sdk": without_sdk,
}


async def on_fetch(request: Any, env: Any, ctx: Any) -> Any:
    url = urlsplit(request.url)
    if url.path.startswith("/room/"):
        found = await room(request, env=env, path=url.path.removeprefix("/room"))
    else:
        found = await HANDLERS[url.path](request, **dict(parse_qsl(url.query)))
    return js.Response.new(json.dumps(found))


class Room:
    """A Durable Object that does the same."""

    def __init__(self, state: Any, env: Any) -> None:
        pass

    async def fetch(self, request: Any) -> Any:
        return await on_fetch(request, None, None)
