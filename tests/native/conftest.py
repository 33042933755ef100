"""What the tests with threads share."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import collect


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where Python found it ignored: a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as the interpreter can, and coverage does not look on.

    Traced they take several times as long, and what they happen to run should cover no branch: that would be chance.
    """
    interval, tracer = sys.getswitchinterval(), threading.gettrace()
    sys.setswitchinterval(1e-6)
    threading.settrace(None)
    yield
    threading.settrace(tracer)
    sys.setswitchinterval(interval)


@pytest.fixture
def abandoning() -> Iterator[None]:
    """Tasks of closed loops are destroyed while pending here, and asyncio says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)  # of coroutines never awaited
        yield
        collect()
