"""A small GitHub on 127.0.0.1: `python -m examples.github_server --app-key PUBLIC.pem`."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path

try:
    import uvicorn

    from examples.github_server.accounts import Accounts
    from examples.github_server.app import GitHub
    from examples.github_server.data import SEED, SeedError, load
except ModuleNotFoundError as missing:
    sys.exit(f"github_server: {missing.name} is not installed; pip install -r requirements/examples.txt")

HOST = "127.0.0.1"


def arguments(argv: list[str]) -> argparse.Namespace:
    """What was asked for; ends the program if that makes no sense."""
    parser = argparse.ArgumentParser(
        prog="github_server",
        description="A small GitHub on 127.0.0.1. The first line printed is its address.",
        allow_abbrev=False,
    )
    parser.add_argument("--app-key", type=Path, required=True, metavar="FILE", help="the app's public key, PEM")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--seed", type=Path, default=SEED, metavar="FILE", help="what there is, as JSON")
    parser.add_argument("--limit", type=int, default=5000, help="requests an hour of one installation")
    parser.add_argument("--lifetime", type=float, default=3600, metavar="SECONDS", help="of a token")
    options = parser.parse_args(argv)
    if not 0 <= options.port < 1 << 16:
        parser.error(f"--port {options.port}: must be 0 to 65535")
    return options


def main(argv: list[str]) -> int | str:
    """Serve until stopped; a message if that cannot be."""
    options = arguments(argv)
    try:
        app_key = options.app_key.read_bytes()
        data = load(options.seed)
    except OSError as error:
        return f"github_server: cannot read {options.app_key}: {error.strerror}"
    except SeedError as error:
        return f"github_server: {error}"
    try:
        listening = socket.create_server((HOST, options.port))
    except OSError as error:
        return f"github_server: cannot listen on {HOST}:{options.port}: {error.strerror}; --port 0 finds a free one"
    with listening:
        print(f"http://{HOST}:{listening.getsockname()[1]}", flush=True)
        application = GitHub(Accounts(data, app_key, options.limit, options.lifetime)).application()
        # "critical": faults on demand are no news. Nor are requests that hang something to wait for at the end.
        config = uvicorn.Config(application, log_level="critical", access_log=False, timeout_graceful_shutdown=1)
        uvicorn.Server(config).run([listening])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
