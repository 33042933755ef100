"""Start the server, fetch all that it has with many tasks at once, and show what that cost.

python -m examples.github_client [--loop asyncio|trio|pyodide] [--freshness]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

try:
    import attrs
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    from examples.github_client.loops import on_asyncio, on_trio
    from examples.github_client.native import HttpxSend, signer
    from examples.github_client.workload import KEY_VARIABLE, Job, run
except ModuleNotFoundError as missing:
    sys.exit(f"github_client: {missing.name} is not installed; pip install -r requirements/examples.txt")

ROOT = Path(__file__).parents[2]
LOOPS = ("asyncio", "trio", "pyodide")


def arguments(argv: list[str]) -> argparse.Namespace:
    """What was asked for; ends the program if that makes no sense."""
    parser = argparse.ArgumentParser(prog="github_client", description=__doc__, allow_abbrev=False)
    parser.add_argument("--loop", choices=LOOPS, default="asyncio", help="default: asyncio; pyodide: on Node")
    parser.add_argument("--tasks", type=int, default=50, metavar="N", help="at once; default: 50")
    parser.add_argument("--freshness", action="store_true", help="do not ask again while an answer is fresh")
    parser.add_argument("--port", type=int, default=0, help="the server's; default: a free one")
    parser.add_argument("--seed", type=Path, metavar="FILE", help="what the server has, as JSON")
    options = parser.parse_args(argv)
    if options.tasks < 1:
        parser.error(f"--tasks {options.tasks}: must be 1 or more")
    if options.loop == "trio" and find_spec("trio") is None:
        parser.error("--loop trio: trio is not installed; pip install -r requirements/examples.txt")
    return options


def key_pair() -> tuple[str, bytes]:
    """A new app's private and public key, in PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public


@contextmanager
def server(public_key: bytes, *options: str) -> Iterator[str]:
    """A server in a process of its own; its address. It is stopped on leaving.

    Raises:
        ChildProcessError: it has not started; it has said why.
    """
    with TemporaryDirectory() as folder:
        key = Path(folder, "app.pem")
        key.write_bytes(public_key)
        command = [sys.executable, "-m", "examples.github_server", "--app-key", str(key), *options]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                address = process.stdout.readline().strip()
                if not address:
                    raise ChildProcessError("the server has not started")
                yield address
            finally:
                process.terminate()


def fetch(job: Job, private_key: str) -> int:
    """Run the job on its loop; the exit code."""
    if job.loop == "pyodide":
        order = json.dumps(attrs.asdict(job))
        script = ["-m", "tests.pyodide", "--script", "examples/github_client/in_pyodide.py", order]
        environment = {**os.environ, KEY_VARIABLE: private_key}
        return subprocess.run([sys.executable, *script], cwd=ROOT, env=environment, check=False).returncode

    async def main() -> int:
        run_all = on_trio if job.loop == "trio" else on_asyncio
        async with HttpxSend(freshness=job.freshness) as send:
            return await run(job, send, signer(private_key), run_all)

    if job.loop == "trio":
        import trio

        return trio.run(main)
    import asyncio

    return asyncio.run(main())


def main(argv: list[str]) -> int | str:
    """Do it all; the exit code, or a message."""
    options = arguments(argv)
    private_key, public_key = key_pair()
    serving = ["--port", str(options.port)]
    if options.seed is not None:
        serving += ["--seed", str(options.seed.absolute())]
    try:
        with server(public_key, *serving) as base:
            return fetch(Job(base, options.loop, options.tasks, freshness=options.freshness), private_key)
    except ChildProcessError as error:
        return f"github_client: {error}"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("\ninterrupted")
