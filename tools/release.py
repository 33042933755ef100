"""Build a release, check it, and try it where nothing else is: ``python -m tools.release FOLDER PYTHON ...``.

The folder gets the source distribution, the pure wheel, and where there is a compiler a compiled wheel for each PYTHON,
built from the source distribution. Each wheel is installed into an empty environment of each PYTHON that takes it, and
has to do there what `tools/tried.py` asks.
"""

# ruff: noqa: T201, S603 - what it prints is its output; it runs what the command line names

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

REPO = Path(__file__).resolve().parents[1]
TRIED = REPO / "tools" / "tried.py"
EXAMPLE = REPO / "examples" / "wordcount.py"


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("pythons", nargs="+", metavar="PYTHON")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if folder.exists() and any(folder.iterdir()):
        parser.error(f"{folder} is not empty: what lies there would be taken for what was built")
    run(sys.executable, "-m", "build", "--outdir", folder, REPO, ASYNCLOCKS_PURE="1")
    (source,) = folder.glob("*.tar.gz")
    (pure,) = folder.glob("*.whl")
    compiler = os.name == "nt" or shutil.which(os.environ.get("CC", "cc"))
    if not compiler:
        print("there is no C compiler here, so only the pure wheel is built and tried")
    with TemporaryDirectory() as temporary:
        for number, python in enumerate(options.pythons):
            environment = Environment(Path(temporary, str(number)), python)
            environment.try_out(pure, compiled=False)
            if compiler:
                environment.try_out(environment.compile(source, folder), compiled=True)
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(folder.iterdir()))


def run(*command: object, cwd: Path | None = None, **environment: str) -> None:
    """Run it, with these variables besides, and without those that would let it find the repository."""
    cleared = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "ASYNCLOCKS_PURE"}}
    subprocess.run(list(map(str, command)), check=True, cwd=cwd, env={**cleared, **environment})


class Environment:
    """One Python, and what is installed beside nothing else."""

    def __init__(self, folder: Path, python: str) -> None:
        self._folder = folder
        self._name = python
        self._made = 0
        folder.mkdir()

    def _fresh(self) -> Path:
        """The interpreter of a new environment, in which there is only pip."""
        self._made += 1
        place = self._folder / str(self._made)
        run(sys.executable, "-m", "virtualenv", "--quiet", "--python", self._name, place)
        return place / ("Scripts" if os.name == "nt" else "bin") / "python"

    def compile(self, source: Path, folder: Path) -> Path:
        """The wheel with the core in C that this Python makes of the source distribution."""
        before = set(folder.glob("*.whl"))
        command = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source)
        run(self._fresh(), *command, ASYNCLOCKS_COMPILED="1")
        (built,) = set(folder.glob("*.whl")) - before
        return built

    def try_out(self, wheel: Path, *, compiled: bool) -> None:
        """Install it, and let it show what it can."""
        print(f"{self._name}: {wheel.name}", flush=True)
        python = self._fresh()
        run(python, "-m", "pip", "install", "--quiet", wheel)
        run(python, TRIED, "alone", "compiled" if compiled else "pure", cwd=self._folder)
        run(python, "-m", "pip", "install", "--quiet", f"{wheel}[trio]")
        run(python, TRIED, "with-trio", cwd=self._folder)
        run(python, EXAMPLE, REPO / "asynclocks", cwd=self._folder)


if __name__ == "__main__":
    main()
