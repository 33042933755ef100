"""What a Worker of the test bed consists of: workerd and Pyodide, fetched once; packages, our wheel, settings."""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.metadata import distributions
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

from tests.pyodide.bed import REPO, bed, install_inside, locked, pip

WORKER = Path(__file__).with_name("worker")
INSIDE = REPO / "requirements" / "workerd-inside.txt"
PYODIDE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")


def fetch() -> Path:
    """The bed's folder, with workerd in it."""
    folder = bed("workerd")
    stamp = folder / "workerd-stamp"
    wanted = sha256(INSIDE.read_bytes() + INSIDE.with_name("pyodide-inside.txt").read_bytes()).hexdigest()
    with locked(folder):
        if not (stamp.is_file() and stamp.read_text() == wanted):
            print(f"fetching the SDK of Python Workers into {folder}", flush=True)
            install_inside(folder / "workerd-site", INSIDE)
            stamp.write_text(wanted)
    return folder


def write_site(path: Path, fetched: Path, packages: Iterable[str], files: Mapping[str, str | Path]) -> None:
    """Everything Python that goes into the Worker, as one archive."""
    with zipfile.ZipFile(path, "w") as site:
        for name, file in _installed(fetched / "workerd-site", [*packages]):
            site.write(file, name)
        with zipfile.ZipFile(_wheel(fetched)) as wheel:
            for name in wheel.namelist():
                site.writestr(name, wheel.read(name))
        for name, content in {"tests": REPO / "tests", **files}.items():
            if isinstance(content, str):
                site.writestr(name, content)
            else:
                for file in [content] if content.is_file() else sorted(content.rglob("*.py")):
                    site.write(file, Path(name, file.relative_to(content)))


def _installed(site: Path, packages: list[str]) -> Iterable[tuple[str, Path]]:
    for distribution in distributions(path=[str(site)]):
        if "*" in packages or distribution.name in packages:
            for file in distribution.files or ():
                path = Path(str(distribution.locate_file(file)))
                if path.is_file() and path.is_relative_to(site):
                    yield str(file), path


def _wheel(fetched: Path) -> Path:
    """The library's wheel, built from the sources as they stand here."""
    sources = [REPO / "pyproject.toml", *sorted((REPO / "asynclocks").rglob("*.py"))]
    digest = sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    made = fetched / "wheels" / f"{digest}.whl"
    if not made.is_file():
        made.parent.mkdir(exist_ok=True)
        with TemporaryDirectory(dir=made.parent) as folder:
            pip("wheel", "--no-deps", "--wheel-dir", folder, REPO)
            (wheel,) = Path(folder).glob("*.whl")
            wheel.replace(made)
    return made


def write_config(folder: Path, fetched: Path, variables: Mapping[str, str], durable_objects: list[str]) -> None:
    """Write into `folder` what workerd is to be started with there."""
    for name in PYODIDE:
        (folder / name).symlink_to(fetched / "node_modules" / "pyodide" / name)
    for name in ("patch.mjs", "front.mjs"):
        shutil.copyfile(WORKER / name, folder / name)
    classes = [f"export class {name} extends PythonObject {{}}\n" for name in durable_objects]
    (folder / "main.mjs").write_text((WORKER / "main.mjs").read_text() + "".join(classes))
    bindings = [f"(name = {json.dumps(name)}, text = {json.dumps(text)})," for name, text in variables.items()]
    bindings += [
        f"(name = {json.dumps(name)}, durableObjectNamespace = {json.dumps(name)})," for name in durable_objects
    ]
    namespaces = [f"(className = {json.dumps(name)}, uniqueKey = {json.dumps(name)})," for name in durable_objects]
    config = Template((WORKER / "config.capnp").read_text())
    (folder / "config.capnp").write_text(
        config.substitute(BINDINGS="\n    ".join(bindings), NAMESPACES=" ".join(namespaces))
    )
