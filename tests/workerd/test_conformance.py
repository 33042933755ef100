"""The conformance tests and the seam's laws inside workerd: in one request, and in a Durable Object."""

from __future__ import annotations

import json

import pytest

from tests.pyodide.bed import REPO
from tests.workerd.bed import serve

READ = ["pyproject.toml", "docs/porting.md"]  # by the tests, beside themselves
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("place", "driver"),
    [
        ("request", "await"),
        ("object", "jspi"),
        pytest.param("request", "jspi", marks=SLOW),  # half a minute each; all that can differ is in those above
        pytest.param("object", "await", marks=SLOW),
    ],
)
def test_the_conformance_tests_pass(place: str, driver: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Within one request, and within a Durable Object, the locks are what they are on any loop."""
    files = {name: REPO / name for name in READ}
    with serve("tests.workerd.conformance", packages=["*"], durable_objects=["Conformance"], files=files) as bed:
        order = json.dumps({"driver": driver, "args": []}).encode()
        answer = bed.request(f"/{place}", order, timeout=600).json()
    closing = answer["printed"].rstrip().rpartition("\n")[2]
    with capsys.disabled():
        print(f"\n{place}, driver {driver}: {closing.strip('= ')}")  # noqa: T201 - what ran in there
    assert answer["code"] == 0, answer["printed"]
