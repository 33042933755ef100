"""Pytest plugin that runs the Python of Markdown pages (`nox -s docs`); docstrings are left to pytest's own doctest.

The ```` ```python ```` blocks of one page run in order and share their names; `>>>` in them compares output.
"""

from __future__ import annotations

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

pytest_collect_file = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["*.md"]).pytest()
