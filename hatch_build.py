"""Compile `asynclocks/_engine/_core.c` when a wheel is built for a CPython with a GIL.

Where that cannot be done, one line says why (``pip install -v`` shows it), and the wheel is pure. Told otherwise by the
environment: ``ASYNCLOCKS_PURE=1`` builds the pure wheel, ``ASYNCLOCKS_COMPILED=1`` compiles or fails. An editable
install has the module beside its source, where git ignores it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NEWEST = (3, 15)  # CPython that the module in C was tested on; on a newer one it is compiled only if one asks for it
FOLDER = "asynclocks/_engine"
SOURCE = f"{FOLDER}/_core.c"
# Run in a process of its own: what a compiler prints is shown only if it fails.
COMPILE = """
import sys
from setuptools import Extension, setup
source, folder = sys.argv.pop(), sys.argv.pop()
setup(
    name="asynclocks",
    packages=[],
    py_modules=[],
    ext_modules=[Extension("_core", [source])],
    script_args=["build_ext", "--force", "--build-lib", folder, "--build-temp", folder],
)
"""


class Unwanted(Exception):
    """The pure wheel is asked for, or the only one there is for this interpreter."""


class CompileHook(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's hook for wheels, editable ones too."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        beside = Path(self.root, FOLDER, "_core" + sysconfig.get_config_var("EXT_SUFFIX"))
        try:
            built = self.compile()
        except Unwanted:
            built = None
        except (OSError, subprocess.SubprocessError) as error:
            if os.environ.get("ASYNCLOCKS_COMPILED") == "1":
                raise RuntimeError(f"asynclocks cannot be compiled: {reason(error)}") from error
            self.app.display_warning(f"asynclocks is installed uncompiled, as pure Python: {reason(error)}")
            built = None
        if version == "editable":
            if built is None:
                beside.unlink(missing_ok=True)  # an older one would be imported
            else:
                fresh = beside.with_name(f"{beside.name}.{os.getpid()}")
                shutil.copyfile(built, fresh)
                fresh.replace(beside)  # in one step: who has the old one loaded keeps it
        elif built is not None:
            build_data["force_include"][str(built)] = f"{FOLDER}/{beside.name}"
        if built is not None:
            build_data["pure_python"] = False
            build_data["infer_tag"] = True

    def compile(self) -> Path:
        """The module for the Python that builds."""
        asked = os.environ.get("ASYNCLOCKS_COMPILED") == "1"
        if os.environ.get("ASYNCLOCKS_PURE") == "1" or not (asked or sys.version_info[:2] <= NEWEST):
            raise Unwanted
        if sys.implementation.name != "cpython" or sys.platform == "emscripten":
            raise Unwanted
        if sysconfig.get_config_var("Py_GIL_DISABLED"):  # what is in C relies on a GIL
            raise Unwanted
        folder = Path(self.temporary.name)
        source = Path(shutil.copy(Path(self.root, SOURCE), folder))
        # In that folder: here setuptools would read pyproject.toml, and refuse what is for hatchling there.
        command = [sys.executable, "-c", COMPILE, ".", source.name]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        return next(folder.glob("_core*" + sysconfig.get_config_var("EXT_SUFFIX")))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self.temporary.cleanup()


def reason(error: OSError | subprocess.SubprocessError) -> str:
    """Why it could not be compiled, in one line."""
    said = str(getattr(error, "stderr", None) or error).strip().splitlines()
    return said[-1] if said else repr(error)
