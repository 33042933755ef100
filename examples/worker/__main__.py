"""Serves the Worker on this machine and asks it for many things at once.

``python -m examples.worker`` at the repository's root; ``--serve`` lets it run, for you to ask.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from examples.worker.api import PRICES, Api, serve_api
from tests.workerd.bed import Bed
from tests.workerd.project import serve_project

HERE = Path(__file__).parent


def main() -> None:
    """Serve, and do what was asked for."""
    with serve_api() as api, serve_project(HERE, API=api.url) as bed:
        if "--serve" in sys.argv[1:]:
            keep_serving(bed)
        else:
            ask_at_once(bed, api)


def keep_serving(bed: Bed) -> None:
    """Until Ctrl-C."""
    print(f"{bed.url}/prices/{next(iter(PRICES))} and {bed.url}/statistics until Ctrl-C", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()


def ask_at_once(bed: Bed, api: Api) -> None:
    """Twelve requests for four prices. A thirteenth, which fetches the token for them, is cancelled."""
    first = bed.start(f"/prices/{next(iter(PRICES))}")
    bed.wait_until(lambda: api.asked["/token"], "the API is asked for a token")
    calls = [bed.start(f"/prices/{item}") for item in PRICES for _ in range(3)]
    first.cancel()
    answers = [call.answer() for call in calls]
    print(f"{first.answer().status}: cancelled while it fetched the token")
    for answer in answers:
        print(f"{answer.status} after {answer.seconds:.2f} s: {answer.text}")
    print(f"the API was asked {dict(api.asked)}, for {api.most} prices at once at most")
    assert [answer.json()["price"] for answer in answers] == [price for price in PRICES.values() for _ in range(3)]
    assert all(api.asked[f"/prices/{item}"] == 1 for item in PRICES)


if __name__ == "__main__":
    main()
