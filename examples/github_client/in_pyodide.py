"""In Pyodide: pyfetch with the HTTP cache, and JWTs by WebCrypto, since `cryptography` cannot be had there.

Started by `python -m examples.github_client --loop pyodide`, which puts the private key into the environment.
"""

from __future__ import annotations

import asyncio
import base64
import json

from asynclocks.recipes.pyfetch import CachingFetch
from examples.github_client.github import Json, Reply, Signer
from examples.github_client.loops import on_asyncio
from examples.github_client.workload import KEY_VARIABLE, Job, run


class PyfetchSend:
    """Sends by pyfetch."""

    def __init__(self, timeout: float = 10, *, freshness: bool = False) -> None:
        self._client = CachingFetch(freshness=freshness)
        self._timeout = timeout

    async def __call__(self, method: str, url: str, headers: dict[str, str]) -> Reply:
        async with asyncio.timeout(self._timeout):
            answer = await self._client.request(url, method=method, headers=headers)
        found = {name.lower(): value for name, value in answer.headers}
        return Reply(answer.status, found, answer.body, answer.from_cache, answer.cache_status == "fresh")


def signer(private_key: str) -> Signer:
    """Signs with a key in PEM (PKCS #8)."""
    lines = private_key.strip().splitlines()
    der = base64.b64decode("".join(lines[1:-1]))

    async def sign(claims: Json) -> str:
        signing_input = f"{_base64(_compact({'alg': 'RS256', 'typ': 'JWT'}))}.{_base64(_compact(claims))}"
        return f"{signing_input}.{_base64(await _signature(der, signing_input.encode()))}"

    return sign


async def _signature(key: bytes, data: bytes) -> bytes:
    from js import Object, crypto  # type: ignore[import-not-found, unused-ignore] # exists in Pyodide only
    from pyodide.ffi import to_js  # type: ignore[import-not-found, unused-ignore] # exists in Pyodide only

    algorithm = to_js({"name": "RSASSA-PKCS1-v1_5", "hash": "SHA-256"}, dict_converter=Object.fromEntries)
    subtle = crypto.subtle
    imported = await subtle.importKey("pkcs8", to_js(key), algorithm, False, to_js(["sign"]))
    signature = await subtle.sign("RSASSA-PKCS1-v1_5", imported, to_js(data))
    found: bytes = signature.to_bytes()
    return found


def _compact(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def main(argv: list[str]) -> int:
    """Run the job that the arguments describe, as JSON."""
    from js import process  # type: ignore[import-not-found, unused-ignore] # exists on Node only

    job = Job(**json.loads(argv[0]))
    sign = signer(getattr(process.env, KEY_VARIABLE))
    return await run(job, PyfetchSend(freshness=job.freshness), sign, on_asyncio)
