"""What the site's live page does in Python. In a browser it is tried by `python -m tests.live`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import redirect_stdout
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "live"
PROGRAMS = sorted((FOLDER / "programs").glob("*.py"))

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="the page's Python is 3.14; a task tells its context since 3.12"
)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as the page's programs import it, with `asyncio.run` replaced as there."""
    spec = spec_from_file_location("live", FOLDER / "live.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "live", module)
    monkeypatch.setattr(asyncio, "run", module.run_by_the_page)
    return module


def told(live: ModuleType, source: str) -> list[dict[str, Any]]:
    """The events of this program, which is cancelled if it does not end."""
    events: list[dict[str, Any]] = []
    with redirect_stdout(live.Output()), asyncio.Runner() as runner:
        runner.run(asyncio.wait_for(live.run(source, "program.py", events.append), 30))
    return events


def in_words(events: list[dict[str, Any]]) -> list[str]:
    return [" ".join(str(event[key]) for key in ("task", "kind", "lock")) for event in events if "lock" in event]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_a_program_of_the_page_runs_on_any_machine(program: Path) -> None:
    """As `python program.py`, with the page's module beside it."""
    source = program.read_text()
    assert "HOLD = 0.4" in source
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source.replace("HOLD = 0.4", "HOLD = 0.02")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [FOLDER, FOLDER.parents[1]]))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_each_spelling_of_a_hold_is_told(live: ModuleType) -> None:
    """Awaited, tried, a block of an acquisition, and the old acquire and release."""
    events = told(
        live,
        """
import asyncio
from asynclocks import Mutex, RwLock
from live import shown
m, rw = shown(Mutex(0), "m"), shown(RwLock(0), "rw")
async def main():
    asyncio.current_task().set_name("t")
    guard = await m.lock()
    guard.release()
    with m.try_lock() as guard:
        guard.value = 1
    async with rw.read() as guard:
        print(guard.value, m.locked())
    await m.acquire()
    m.release()
asyncio.run(main())
""",
    )
    once = ["t waits {}", "t holds {}", "t frees {}"]
    expected = [*once, *once[1:], *(word.replace("{}", "rw") for word in once), *once]
    assert in_words(events) == [word.format("m") for word in expected]
    assert "".join(event["text"] for event in events if event["kind"] == "says") == "0 False\n"
    assert events[-1]["kind"] == "ended"


def test_a_failed_program_shows_its_own_lines_only(live: ModuleType) -> None:
    """Also of what failed in a group's task, inside a lock's block."""
    events = told(
        live,
        """
import asyncio
from asynclocks import Mutex
from live import shown
async def work():
    async with shown(Mutex(), "m"):
        raise ValueError("no")
async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(work())
asyncio.run(main())
""",
    )
    assert events[-1]["kind"] == "failed"
    text = events[-2]["text"]
    assert text.count("File") == text.count('File "program.py"') == 2
    assert '    raise ValueError("no")' in text


def test_what_a_program_leaves_behind_ends_with_it(live: ModuleType) -> None:
    """As `asyncio.run` does; other runs' tasks go on."""
    events = told(
        live,
        """
import asyncio
async def stay():
    try:
        await asyncio.sleep(99)
    finally:
        print("gone")
async def main():
    asyncio.create_task(stay())
    await asyncio.sleep(0)
asyncio.run(main())
""",
    )
    assert [event["kind"] for event in events] == ["ended", "says", "says"]


def test_a_cancelled_program_is_told_as_stopped(live: ModuleType) -> None:
    async def start_and_cancel() -> list[str]:
        kinds: list[str] = []
        live.start(
            "import asyncio\nasyncio.run(asyncio.sleep(99))", "program.py", lambda event: kinds.append(event["kind"])
        )
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        live.cancel("program.py")
        await asyncio.wait(live._started.values())
        return kinds

    with asyncio.Runner() as runner:
        assert runner.run(start_and_cancel()) == ["stopped"]
