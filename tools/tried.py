"""What `tools/release.py` has a fresh install do. It must not find the repository."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import asynclocks


def check(held: object, why: str) -> None:
    """Leave with a message unless it holds."""
    if not held:
        sys.exit(f"{why} ({asynclocks.__file__}, {asynclocks.__version__}, compiled: {asynclocks.compiled})")


async def take_turns(mutex: asynclocks.Mutex[list[int]]) -> None:
    """Two tasks of the running loop, one after the other."""
    async with mutex as guard:
        guard.value.append(len(guard.value))


async def on_asyncio(mutex: asynclocks.Mutex[list[int]]) -> None:
    """Hand over from one task to another."""
    await asyncio.gather(take_turns(mutex), take_turns(mutex))


def alone(kind: str) -> None:
    """Try what needs asyncio only."""
    here = Path(__file__).resolve().parents[1]
    check(here not in Path(asynclocks.__file__).resolve().parents, "this is the repository, not what was installed")
    check(version("asynclocks") == asynclocks.__version__, "the metadata have another version")
    check(asynclocks.compiled == (kind == "compiled"), f"it ought to be {kind}")
    mutex = asynclocks.Mutex[list[int]]([])
    asyncio.run(on_asyncio(mutex))
    check(mutex.into_inner() == [0, 1], "two tasks did not take turns")
    for name in asynclocks.__all__:
        getattr(asynclocks, name)
    try:
        import_module("asynclocks.recipes.httpx")
    except ImportError as error:
        check("asynclocks[httpx]" in str(error), f"who lacks httpx is not told of the extra: {error}")
    else:
        check(False, "httpx is here, which nobody asked for")


def with_trio() -> None:
    """Try one lock on both loops."""
    import trio

    mutex = asynclocks.Mutex[list[int]]([])

    async def on_trio() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_turns, mutex)
            nursery.start_soon(take_turns, mutex)

    asyncio.run(on_asyncio(mutex))
    trio.run(on_trio)
    check(mutex.into_inner() == [0, 1, 2, 3], "one lock did not serve both loops")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["alone", kind]:
            alone(kind)
        case _:
            with_trio()
