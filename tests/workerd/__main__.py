"""Run the tests in this folder: ``python -m tests.workerd [pytest's arguments]``."""

from __future__ import annotations

import sys

import pytest

OPTIONS = ["--override-ini=testpaths=tests/workerd", "--override-ini=faulthandler_timeout=900"]

if __name__ == "__main__":
    sys.exit(pytest.main([*OPTIONS, *sys.argv[1:]]))
