"""Pytest plugin for `nox -s freethreaded`: the GIL is off from the first test to the last, whatever is imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def without_gil() -> Iterator[None]:
    """Fail the first test, or the last one too, if the GIL is on."""
    _look("PYTHON_GIL=0 and a Python that was built for it turn it off")
    yield
    _look("a test turned it on")


def _look(why: str) -> None:
    if sys._is_gil_enabled():
        pytest.fail(f"these tests must run without the GIL, and it is on: {why}")
