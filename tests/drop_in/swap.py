"""Pytest plugin: puts the drop-in classes where an original's tests import its own from, and skips what is listed."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from inspect import iscoroutinefunction
from typing import Any

import pytest

from tests.drop_in.skipped import SKIPPED

ORIGINALS = {
    "asyncio": ["asyncio", "asyncio.locks"],
    "threading": ["threading"],
    "anyio": ["anyio"],
    "trio": ["trio", "trio._sync"],
    "aiorwlock": [],  # need not be installed
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--original", required=True, choices=list(ORIGINALS))


def pytest_configure(config: pytest.Config) -> None:
    original = config.getoption("--original")
    ours = importlib.import_module(f"asynclocks.drop_in.{original}")
    if original == "aiorwlock":
        sys.modules["aiorwlock"] = ours
    if original == "threading":  # pytest's own threads keep theirs: threads.py names ours
        return
    for name in ORIGINALS[original]:
        module = importlib.import_module(name)
        for public in ours.__all__:
            if hasattr(module, public):
                setattr(module, public, getattr(ours, public))

    if original == "asyncio":
        show_private_names(ours)


def show_private_names(ours: Any) -> None:
    """Let CPython's tests count waiters, and see a semaphore's value, by asyncio's private names for them."""
    ours.Lock._waiters = property(lambda lock: [None] * lock._mutex.statistics().waiting)
    ours.Event._waiters = property(lambda event: [None] * event._event.statistics().waiting)
    ours.Condition._waiters = property(lambda condition: [None] * condition._condvar.statistics().waiting)
    ours.Semaphore._waiters = property(lambda semaphore: [None] * semaphore._semaphore.statistics().waiting)
    ours.Semaphore._value = property(lambda semaphore: semaphore._semaphore.available_permits)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reasons = SKIPPED[config.getoption("--original")]
    for item in items:
        name = item.nodeid.partition("::")[2]
        for known in (name, name.partition("[")[0]):
            if known in reasons:
                item.add_marker(pytest.mark.skip(reason=reasons[known]))


@pytest.fixture
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """What aiorwlock's tests expect of an old pytest-asyncio: a loop, in which coroutine tests run."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if pyfuncitem.config.getoption("--original") != "aiorwlock" or not iscoroutinefunction(pyfuncitem.obj):
        return None
    loop = pyfuncitem.funcargs.get("loop") or asyncio.new_event_loop()
    names = pyfuncitem._fixtureinfo.argnames
    loop.run_until_complete(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
