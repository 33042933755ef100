"""Running the examples as their readers do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: object) -> Done:
    """Run Python with these arguments, warnings being errors."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
    out, err = (text.decode().replace(os.linesep, "\n") for text in (done.stdout, done.stderr))  # but leave "\r"
    return Done(done.returncode, out, err)


@contextmanager
def imported(name: str) -> Iterator[ModuleType]:
    """The example of this name as a module, for tests that change something in it."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield import_module(name)
    finally:
        sys.path.remove(str(EXAMPLES))
        sys.modules.pop(name, None)
