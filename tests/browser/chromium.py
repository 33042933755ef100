"""The browser of this machine."""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys


def chromium(*, install: bool) -> str:
    """Its path. If it is absent, install it as asked, or leave and say what to do."""
    found = _find()
    if found is None and install:
        _install()
        found = _find()
    if found is None:
        sys.exit("no chromium on PATH: install it, or set CHROMIUM to the path of a Chromium or Chrome")
    return found


def _find() -> str | None:
    return shutil.which(os.environ.get("CHROMIUM") or "chromium")


def _install() -> None:
    if os.geteuid() != 0 or _distribution() != "debian":
        sys.exit("no chromium on PATH, and only root on Debian can have it installed here: install it, or set CHROMIUM")
    print("installing chromium by apt-get", flush=True)
    _apt_get("update")
    _apt_get("install", "--yes", "--no-install-recommends", "chromium")


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release()["ID"]
    except OSError:
        return None


def _apt_get(*what: str) -> None:
    quietly = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", "-qq", *what], env=quietly, capture_output=True, check=False, text=True)
    if done.returncode:
        sys.exit(f"apt-get {' '.join(what)} failed:\n{done.stdout}{done.stderr}")
