"""Whole programs written for an original, on every loop, with one changed import: see `tests/drop_in/program.py`.

With the originals themselves they run in tests/native/test_drop_in_programs.py, and so do those with threads.
"""

from __future__ import annotations

import pytest

from tests.drop_in.elsewhere import stand_ins
from tests.drop_in.program import Program, written_for
from tests.support import in_pyodide

# Why a program does not run inside Pyodide. On the native loops there is none that does not.
NOT_IN_PYODIDE = {
    "trio_thumbnails": "it runs functions in threads, and there are none",
}


@pytest.mark.parametrize("program", written_for("aiorwlock", "anyio", "asyncio", "trio"), ids=lambda of: of.name)
async def test_a_program_runs_on_every_loop_with_one_changed_import(program: Program) -> None:
    """It prints what it prints with its original on its own loop."""
    if in_pyodide and program.name in NOT_IN_PYODIDE:
        pytest.skip(NOT_IN_PYODIDE[program.name])
    module, printed = program.load(**stand_ins())
    await module.main()
    assert printed == program.prints
