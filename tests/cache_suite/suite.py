"""What the suite's tests say, read from a checkout by Node, which is what they are written for."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import attrs

Json = dict[str, Any]


@attrs.frozen
class Test:
    """One test: its requests, each with what the server answers and what the client is to see."""

    id: str
    name: str
    kind: str  # required, optimal or check
    requests: list[Json] = attrs.field(repr=False)
    depends_on: list[str] = attrs.field(repr=False)


def load(checkout: Path) -> list[Test]:
    """The tests that are about a private cache in a client.

    Left out is what is for browsers or CDNs only, for shared caches, and what a client cannot show that hides interim
    responses (1xx), as httpx does.

    Raises:
        FileNotFoundError: there is no such checkout, or no Node.
    """
    index = checkout / "tests" / "index.mjs"
    if not index.exists():
        raise FileNotFoundError(f"{index}: no checkout of github.com/http-tests/cache-tests")
    script = f"import suites from {json.dumps(index.resolve().as_uri())}; console.log(JSON.stringify(suites))"
    command = ["node", "--input-type=module", "--eval", script]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    tests = [test for group in json.loads(told) for test in group["tests"] if _concerns_us(test)]
    return [
        Test(one["id"], one["name"], one.get("kind", "required"), one["requests"], one.get("depends_on", []))
        for one in tests
    ]


def _concerns_us(test: Json) -> bool:
    if test.get("cdn_only") or test.get("browser_only") or re.search("shared", test["name"], re.IGNORECASE):
        return False
    shows = any("expected_interim_responses" in request for request in test["requests"])
    return not shows or test.get("kind", "required") == "required"
