"""What the commands that run something inside Pyodide, wherever it runs, have in common."""

from __future__ import annotations

import argparse

from tests.pyodide.bed import REPO

DRIVERS = ["jspi", "await"]
EPILOG = """
Arguments not listed here go to pytest, or to the script. Paths are relative to the repository, which is the
working directory inside, too. Two drivers: `jspi` switches stacks, so a coroutine can be waited for in a plain
call; `await` cannot, as in many browsers.

A script defines main(argv: list[str]). If what that returns is awaitable, it is awaited; an int is the exit code.
"""


def parser_of(prog: str, description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--driver", choices=[*DRIVERS, "both"], help="default: both for tests, jspi for a script")
    parser.add_argument("--limit", type=float, default=900, metavar="SECONDS", help="a run that takes longer is ended")
    parser.add_argument("--script", nargs=argparse.REMAINDER, metavar="FILE ARGUMENT", help="run this, not pytest")
    return parser


def jobs(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[dict[str, object]]]:
    """The command line's options, and what to run: one job a driver."""
    options, rest = parser.parse_known_args()
    if options.script is not None and not (options.script and (REPO / options.script[0]).is_file()):
        parser.error("--script needs a file in the repository")
    job = {"entry": "script", "args": options.script} if options.script else {"entry": "pytest", "args": rest}
    chosen = options.driver or ("jspi" if options.script else "both")
    return options, [{"driver": driver, **job} for driver in (DRIVERS if chosen == "both" else [chosen])]
