"""The Workers that the tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pyodide.bed import REPO
from tests.workerd.bed import Bed, serve
from tests.workerd.scene import Scene


@pytest.fixture(scope="session")
def anchoring() -> Iterator[Bed]:
    """A Worker with the SDK of Python Workers, and so with `waitUntil`."""
    with serve("tests.workerd.app", durable_objects=["Room"], measure=True) as bed:
        yield bed
        bed.save_coverage(REPO / ".coverage.workerd-anchoring")


@pytest.fixture(scope="session")
def bare() -> Iterator[Bed]:
    """A Worker without: a cancelled request is gone at once."""
    with serve("tests.workerd.app", sdk=False, measure=True) as bed:
        yield bed
        bed.save_coverage(REPO / ".coverage.workerd-bare")


@pytest.fixture(params=["anchoring", "bare"])
def bed(request: pytest.FixtureRequest) -> Bed:
    running: Bed = request.getfixturevalue(request.param)
    return running


@pytest.fixture
def scene(bed: Bed) -> Scene:
    return Scene(bed)
