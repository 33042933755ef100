"""The Worker in docs/workers.md, which no other run of the documentation can run."""

from __future__ import annotations

import re

from tests.pyodide.bed import REPO
from tests.workerd.bed import serve


def test_the_documented_worker_counts_every_visit() -> None:
    """However many come at once."""
    (code,) = re.findall(r"```python\n(.*?)```", (REPO / "docs" / "workers.md").read_text(), re.DOTALL)
    with serve("documented", files={"documented.py": code}) as bed:
        calls = [bed.start("/") for _ in range(10)]
        answers = [call.answer().text for call in calls]
    assert sorted(answers) == sorted(f"visit {number}" for number in range(1, 11))
