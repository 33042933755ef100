"""The programs in `programs/`, as they stand and with their one marked import changed to a drop-in module.

Each is written for one original, which its file's name begins with, and says in its docstring what it prints: the same
with the original and with ours, on its own loop and on another one. There `elsewhere` answers for the modules that it
takes its tasks and its sleep from, which belong to its own loop.

A program that looks again and again whether time has passed sleeps 5 ms in between. For up to 2 ms Pyodide's loop takes
a message instead of a timer, and workerd fires no timer while one message follows the other.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from types import ModuleType

from tests.support import module_of

MARK = "  # the one import that changes\n"
ORIGINALS = ("aiorwlock", "anyio", "asyncio", "threading", "trio")


class Program:
    """One of them."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.original = path.stem.partition("_")[0]
        assert self.original in ORIGINALS, path
        self._path = path
        self._source = path.read_text(encoding="utf-8")
        _, told, prints = (ast.get_docstring(ast.parse(self._source)) or "").partition("It prints::\n\n")
        assert told, f"{path}: the docstring does not say what it prints"
        self.prints = dedent(prints).splitlines()

    def run_with_the_original(self) -> list[str]:
        """Run it as a script, as it stands; what it printed."""
        return self._run(self._source)

    def run(self) -> list[str]:
        """Run it as a script, with its one import changed; what it printed."""
        return self._run(self._changed())

    def load(self, **stand_ins: ModuleType) -> tuple[ModuleType, list[str]]:
        """Import it with its one import changed, and others answered by these; the module, and where it prints to."""
        return self._load(self.name, self._changed(), stand_ins)

    def _changed(self) -> str:
        line = re.compile(rf"^from {self.original} import (?=.+{MARK})", re.MULTILINE)
        changed, times = line.subn(f"from asynclocks.drop_in.{self.original} import ", self._source)
        assert times == 1, f"{self._path}: {times} marked imports"
        return changed

    def _run(self, source: str) -> list[str]:
        _, printed = self._load("__main__", source, {})
        return printed

    def _load(self, name: str, source: str, stand_ins: Mapping[str, ModuleType]) -> tuple[ModuleType, list[str]]:
        printed: list[str] = []

        def import_one(wanted: str, *how: object) -> object:
            top = wanted.partition(".")[0]  # which is what an import of a module inside it gives
            return stand_ins[top] if top in stand_ins else __import__(wanted, *how)  # type: ignore[arg-type]

        def note(*parts: object) -> None:
            printed.append(" ".join(map(str, parts)))

        inside = {**vars(builtins), "__import__": import_one, "print": note}
        return module_of(name, source, self._path, __builtins__=inside), printed


PROGRAMS = [Program(path) for path in sorted(Path(__file__).with_name("programs").glob("*.py"))]


def written_for(*originals: str) -> list[Program]:
    return [program for program in PROGRAMS if program.original in originals]
