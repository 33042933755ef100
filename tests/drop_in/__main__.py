"""Run the originals' own tests on the drop-in modules: ``python -m tests.drop_in [asyncio anyio …] [-- pytest's]``.

The tests are not here: CPython's come with the interpreter, trio's with its wheel, those of anyio and aiorwlock with
the sdists that requirements/drop_in.txt pins, which are fetched from the package index into a temporary folder. They
run unchanged; `tests.drop_in.swap` puts our classes where they import theirs from.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests.drop_in.swap import ORIGINALS

PROJECT = Path(__file__).parent.parent.parent
REQUIREMENTS = PROJECT / "requirements" / "drop_in.txt"

# A hung test shows every thread's stack, and ends the run.
SETTINGS = "[pytest]\nmarkers = asyncio\nfaulthandler_timeout = 60\nfaulthandler_exit_on_timeout = true\n"


def unpacked(name: str, into: Path) -> Path:
    """The folder of tests in the sdist of this name that is pinned."""
    (pin,) = [
        line.removeprefix("# sdist: ") for line in REQUIREMENTS.read_text().splitlines() if f"sdist: {name}==" in line
    ]
    download = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--dest",
        str(into),
    ]
    subprocess.run([*download, pin], check=True)
    (sdist,) = into.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(into, filter="data")
    sdist.unlink()
    (folder,) = into.iterdir()
    return (folder / "tests").rename(into / f"tests_of_{name}")  # `tests` is the package that you read


def tests_of(original: str, into: Path) -> list[str] | None:
    """What pytest is to run, None where there are no tests."""
    if original in ("asyncio", "threading"):
        module = {"asyncio": "test.test_asyncio.test_locks", "threading": "test.lock_tests"}[original]
        try:
            there = find_spec(module)
        except ModuleNotFoundError:
            there = None
        if there is None or there.origin is None:
            return None
        return [there.origin] if original == "asyncio" else [str(Path(__file__).with_name("threads.py"))]
    if original == "trio":
        return ["-p", "trio._tests.pytest_plugin", "--pyargs", "trio._tests.test_sync"]
    folder = unpacked(original, into)
    return [str(folder / "test_synchronization.py") if original == "anyio" else str(folder)]


def run(original: str, options: list[str]) -> int:
    with tempfile.TemporaryDirectory() as place:
        tests = tests_of(original, Path(place))
        if tests is None:
            print(f"{original}: this interpreter has come without its tests")  # noqa: T201
            return 0
        settings = Path(place, "pytest.ini")
        settings.write_text(SETTINGS + ("anyio_mode = auto\n" if original == "anyio" else ""))
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            str(settings),
            "-p",
            "tests.drop_in.swap",
            "-p",
            "no:cacheprovider",
        ]
        chosen = ["--original", original, "-ra", *tests, *options]
        # Not from the project's folder, whose conftest is not theirs.
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        return subprocess.run([*command, *chosen], check=False, cwd=place, env=environment).returncode


if __name__ == "__main__":
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    failed = [original for original in arguments[:split] or ORIGINALS if run(original, arguments[split + 1 :])]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
