"""octocrab's static instance: `initialise` it once, have the `instance` wherever it is needed."""

from __future__ import annotations

import sys

from asynclocks.recipes import Global
from examples.github_client.github import GitHub, Send

PUBLIC = "https://api.github.com"


def sender() -> Send:
    """What sends requests here, with a cache of its own."""
    if sys.platform == "emscripten":
        from examples.github_client.in_pyodide import PyfetchSend

        return PyfetchSend()
    from examples.github_client.native import HttpxSend

    return HttpxSend()


_instance: Global[GitHub] = Global(lambda: GitHub(sender(), PUBLIC))


def initialise(client: GitHub) -> GitHub | None:
    """Put a client in place; the previous one, None if there was none."""
    return _instance.initialise(client)


def instance() -> GitHub:
    """The client given last; if there was none, one of the public API that is nobody."""
    return _instance.instance()
