"""Put the site's live page together: ``python -m tools.live FOLDER``.

Into the folder go `docs/live` as it is, Pyodide, and a zip of the library with what it needs, so that the page takes
nothing from elsewhere. With ``--serve`` it is then served on this machine.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from tests.pyodide.bed import REPO, bed, sources

PYODIDE = ["pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json"]
NEEDED = ["attr", "attrs", "sniffio"]


def assemble(out: Path) -> None:
    """Make the folder, or bring it up to date."""
    folder = bed()
    shutil.copytree(REPO / "docs" / "live", out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (out / "pyodide").mkdir(exist_ok=True)
    for name in PYODIDE:
        shutil.copyfile(folder / "node_modules" / "pyodide" / name, out / "pyodide" / name)
    with ZipFile(out / "library.zip", "w", ZIP_DEFLATED) as library:
        for top in (REPO / "asynclocks", *(folder / "site" / name for name in NEEDED)):
            for file in sources(top):
                library.write(file, file.relative_to(top.parent))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tools.live", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--serve", action="store_true", help="serve it on 127.0.0.1 until Ctrl-C")
    options = parser.parse_args()
    assemble(options.folder)
    if options.serve:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=options.folder))
        sys.stdout.write(f"http://127.0.0.1:{server.server_port}/\n")
        server.serve_forever()


if __name__ == "__main__":
    main()
