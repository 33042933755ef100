"""Pytest plugin that runs the Python of Markdown pages (`nox -s docs`); docstrings are left to pytest's own doctest.

The ```` ```python ```` blocks of one page run in order and share their names; `>>>` in them compares output.
"""

from __future__ import annotations

from pathlib import Path

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

PROJECT = Path(__file__).parent.parent

pytest_collect_file = Sybil([PythonCodeBlockParser(), SkipParser()], path=str(PROJECT), patterns=["*.md"]).pytest()
