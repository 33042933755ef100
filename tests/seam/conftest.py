from __future__ import annotations

import pytest

from asynclocks import backends


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    for table in ("_factories", "_backends", "_engines", "_backend_of_type"):
        monkeypatch.setattr(backends, table, dict(getattr(backends, table)))
    for quick in ("hint", "glance", "task_here"):
        monkeypatch.setattr(backends, quick, getattr(backends, quick))
