"""`tools.mutants` tells the mutants that a test notices from those that live."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12) or not hasattr(os, "fork"), reason="tools.mutants watches by sys.monitoring, and forks"
)

ROOT = Path(__file__).parents[2]
MODULE = """
class Toy:
    def larger(self, one, other):
        \"\"\"Its text is no mutant.\"\"\"
        return one > other

    def never_run(self):
        return self

def drain(items):
    while items:
        items.pop()

DEFAULT = 1
"""
TESTS = """
from toy import Toy, drain

def test_larger():
    assert Toy().larger(2, 1)

def test_not_larger():
    assert not Toy().larger(1, 2)

def test_drained():
    items = [1]
    drain(items)
    assert not items
"""
EQUAL = "toy.Toy.larger: `one > other` → `one >= other`"
NEVER = "toy.Toy.never_run: `return self` → `return None`"


def hunt(project: Path, page: str, *options: str) -> tuple[int, str]:
    """Mutate the toy; the exit status and what was printed."""
    project.joinpath("toy.py").write_text(MODULE)
    project.joinpath("test_toy.py").write_text(TESTS)
    project.joinpath("page.md").write_text(page)
    project.joinpath("pytest.ini").write_text("[pytest]\npythonpath = .\n")
    pytest = [sys.executable, "-m", "pytest", "-s", "-q", "-p", "no:cacheprovider", "-p", "tools.mutants"]
    given = ["--mutate", "toy.py", "--mutants-page", "page.md", "--mutants-jobs", "1", *options]
    told = subprocess.run(
        [*pytest, *given],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    return told.returncode, told.stdout + told.stderr


def row(key: str, reason: str) -> str:
    where, change = key.split(": ", 1)
    return f"| `{where}` | {change} | {reason} |\n"


def test_a_change_that_no_test_notices_lives_and_fails_the_run(tmp_path: Path) -> None:
    """`>=` for `>` needs a test of equals; `<=` is noticed; what runs for ever is ended; nobody runs the last one."""
    status, told = hunt(tmp_path, "")
    assert status == 1
    assert f"toy.py:5: lives, 2 of 2 tests: {EQUAL}\n" in told
    assert f"toy.py:8: never runs, 0 of 0 tests: {NEVER}\n" in told
    assert told.count(" tests: ") == 2
    assert "3 dead, 1 hangs, 1 lives, 1 never runs\n" in told


def test_survivors_that_the_page_gives_a_reason_for_pass(tmp_path: Path) -> None:
    """And what is known of a mutant need not be tried again."""
    status, told = hunt(tmp_path, row(EQUAL, "nobody asks") + row(NEVER, "nobody runs it"), "--mutants-only", "Toy")
    assert status == 0, told
    status, told = hunt(tmp_path, "", "--mutants-only", "Toy", "--mutants-resume", "all")
    assert status == 1
    assert "4 mutants, 0 of them to try; 2 others, of what an import does, are not" in told


def test_a_line_of_the_page_that_no_mutant_needs_fails_the_run(tmp_path: Path) -> None:
    """Its mutant is dead, or there is none any more."""
    dead = "toy.Toy.larger: `one > other` → `one <= other`"
    page = row(EQUAL, "nobody asks") + row(NEVER, "nobody runs it") + row(dead, "so it seemed")
    status, told = hunt(tmp_path, page, "--mutants-only", "Toy")
    assert status == 1
    assert f"no mutant needs this line of the page: {dead}\n" in told
