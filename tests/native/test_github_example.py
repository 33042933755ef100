"""examples/github_client and examples/github_server: what they print, on each loop, and how they treat each other."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from asynclocks.recipes import CachedToken
from examples.github_client import static
from examples.github_client.__main__ import key_pair, main as fetch, server
from examples.github_client.github import GitHub, GitHubError, Installation, Json, Send, Signer, claims, next_page
from examples.github_client.native import HttpxSend, signer
from examples.github_server.__main__ import main as serve
from tests.support import spawn

ROOT = Path(__file__).parents[2]
SEED = json.loads((ROOT / "examples/github_server/seed.json").read_text(encoding="utf-8"))
PRIVATE_KEY, PUBLIC_KEY = key_pair()
ISSUES_PER_PAGE = 10
SIGN = signer(PRIVATE_KEY)
on_both = pytest.mark.loops("asyncio", "trio")  # what runs httpx; uvloop and eager tasks would show nothing more


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.github_client", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


# The program.
def expected_table() -> list[list[str]]:
    """The rows, from the seed alone."""
    users, repositories = len(SEED["users"]), len(SEED["repositories"])
    still_open = [sum(issue["state"] == "open" for issue in one["issues"]) for one in SEED["repositories"]]
    pages = sum(max(1, -(-number // ISSUES_PER_PAGE)) for number in still_open)
    fetched = {"pages of issues": pages, "repositories": repositories, "users": users}
    looked = {"pages of users": -(-users // 5), "repository lists": users}
    rows = [(kind, count, 0) for kind, count in (looked | fetched).items()]
    rows += [(kind, count, count) for kind, count in fetched.items()]
    rows.append(("in all", sum(asked for _, asked, _ in rows), sum(cached for *_, cached in rows)))
    return [[*kind.split(), str(asked), str(cached), str(asked - cached)] for kind, asked, cached in rows]


@pytest.mark.parametrize("loop", ["asyncio", "trio", pytest.param("pyodide", marks=pytest.mark.slow)])
def test_printed_numbers_are_the_seeds(loop: str) -> None:
    """Asked first they cost, asked again they are free; one token; what the server saw is what the client says."""
    done = run("--loop", loop)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["50", "tasks", "on", f"{loop},", "at"] in [line[:5] for line in lines]
    expected = expected_table()
    assert [line for line in lines if line and line[-1].isdigit()] == expected
    *_, asked, cached, spent = expected[-1]
    nobodys = sum(int(row[-1]) for row in expected[:2])
    assert f"rate limit as nobody: {60 - nobodys} of 60 left" in done.stdout
    assert f"rate limit as an app: {5000 - int(spent) + nobodys} of 5000 left" in done.stdout
    seen = f"the server saw {asked} requests, answered {cached} by 304, gave out 1 token, counted {spent} against"
    assert seen in done.stdout


@pytest.mark.parametrize("loop", ["asyncio", "trio", pytest.param("pyodide", marks=pytest.mark.slow)])
def test_what_is_fresh_costs_no_request(loop: str) -> None:
    done = run("--loop", loop, "--freshness")
    assert done.returncode == 0, done.stderr
    expected = expected_table()
    assert " ".join(expected[-1]) in " ".join(done.stdout.split())
    *_, cached, spent = expected[-1]
    assert f"saved {cached} answers: 0 were confirmed by a 304, {cached} were fresh" in done.stdout
    assert f"the server saw {spent} requests, answered 0 by 304" in done.stdout


def test_one_task_does_what_fifty_do() -> None:
    done = run("--tasks", "1")
    assert done.returncode == 0, done.stderr
    assert " ".join(expected_table()[-1]) in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("seed", "complaint"),
    [
        (None, os.strerror(errno.ENOENT)),
        ("{", "is no JSON"),
        ("\xff", "is no JSON"),
        ("[]", "lacks something"),
        ('{"app": {"id": 7}}', "lacks something ('installations')"),
        ('{"app": {"id": 7, "installations": [1]}, "users": [], "repositories": [{}]}', "lacks something"),
    ],
)
def test_unusable_seed_gets_a_message(tmp_path: Path, seed: str | None, complaint: str) -> None:
    file = tmp_path / "seed.json"
    if seed is not None:
        file.write_bytes(seed.encode("latin-1"))
    key = tmp_path / "app.pem"
    key.write_bytes(PUBLIC_KEY)
    said = serve(["--app-key", str(key), "--seed", str(file)])
    assert isinstance(said, str)
    assert complaint in said
    assert str(file) in said


def test_server_that_cannot_start_ends_the_client_too(tmp_path: Path) -> None:
    done = run("--seed", tmp_path / "none.json")
    assert done.returncode == 1
    assert done.stderr == (
        f"github_server: cannot read {tmp_path / 'none.json'}: {os.strerror(errno.ENOENT)}\n"
        "github_client: the server has not started\n"
    )


def test_port_in_use_gets_a_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--port", port)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "--port 0 finds a free one" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("--tasks", "0"), ("--tasks", "x"), ("--loop", "curio"), ("--port", "65536")])
def test_bad_arguments_are_named(arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    program = serve if arguments[0] == "--port" else fetch
    with pytest.raises(SystemExit) as ended:
        program([*arguments, "--app-key", "any"][: None if program is serve else 2])
    assert ended.value.code == 2
    assert f"error: {arguments[0]}" in capsys.readouterr().err.replace("argument ", "")


def test_missing_trio_is_named_with_the_way_to_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trio", None)
    with pytest.raises(SystemExit):
        fetch(["--loop", "trio"])
    assert "trio is not installed; pip install -r requirements/examples.txt" in capsys.readouterr().err


def test_missing_key_gets_a_message(tmp_path: Path) -> None:
    said = serve(["--app-key", str(tmp_path / "none.pem")])
    assert said == f"github_server: cannot read {tmp_path / 'none.pem'}: {os.strerror(errno.ENOENT)}"


@pytest.mark.parametrize(("program", "package"), [("github_client", "cryptography"), ("github_server", "uvicorn")])
def test_missing_package_is_named_with_the_way_to_it(program: str, package: str) -> None:
    source = f"import runpy, sys; sys.modules[{package!r}] = None; "
    source += f"runpy.run_module('examples.{program}', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install -r requirements/examples.txt" in done.stderr
    assert "Traceback" not in done.stderr


# The client and the server.
@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with server(PUBLIC_KEY) as address:
        yield address


@contextmanager
def another_server(*options: str) -> Iterator[str]:
    with server(PUBLIC_KEY, *options) as address:
        yield address


def token_of(send: Send, base: str, sign: Signer = SIGN, number: int = 42) -> CachedToken[str]:
    return Installation(7, number, sign).token(send, base)


@asynccontextmanager
async def app(base: str) -> AsyncIterator[GitHub]:
    async with HttpxSend() as send:
        yield GitHub(send, base, token_of(send, base))


async def test_revoked_token_is_fetched_anew_once_for_all(base: str) -> None:
    async with HttpxSend() as send:
        token = token_of(send, base)
        github = GitHub(send, base, token)
        await github.user("ada")
        revoked = await token.get()
        before = json.loads((await send("GET", f"{base}/_tally", {})).body)["tokens"]
        await send("DELETE", f"{base}/installation/token", {"Authorization": f"Bearer {revoked}"})
        async with anyio.create_task_group() as group:
            asking = [spawn(group, github.user, "ada") for _ in range(20)]
        assert {task.result["name"] for task in asking} == {"Ada Lovelace"}
        assert json.loads((await send("GET", f"{base}/_tally", {})).body)["tokens"] == before + 1


async def test_token_that_arrives_expired_is_refused_and_not_kept() -> None:
    with another_server("--lifetime", "-60") as base:
        async with HttpxSend() as send:
            token = token_of(send, base)
            with pytest.raises(GitHubError, match="401 Bad credentials"):
                await GitHub(send, base, token).user("ada")
            assert token.peek() is None


def changed(**change: Any) -> Signer:
    """An app that does not keep to the rules; a number is added to the claim."""

    async def sign(what: Json) -> str:
        added = {name: what[name] + value if isinstance(value, int) else value for name, value in change.items()}
        return await SIGN({**what, **added})

    return sign


DECODED_NOT = "A JSON web token could not be decoded: ."  # and why, in PyJWT's words


async def nonsense(_: Json) -> str:
    return "no.jwt.at-all"


@pytest.mark.parametrize(
    ("sign", "complaint"),
    [
        (signer(key_pair()[0]), DECODED_NOT),
        (nonsense, DECODED_NOT),
        (changed(iss="8"), DECODED_NOT),
        (changed(iat=-3600, exp=-3600), DECODED_NOT),
        (changed(iat=3600), DECODED_NOT),
        (changed(exp=120), "'Expiration time' claim .* is too far in the future"),
    ],
    ids=["another key", "no JWT", "another app", "expired", "not yet valid", "valid too long"],
)
@on_both
async def test_bad_app_jwt_is_refused(base: str, sign: Signer, complaint: str) -> None:
    async with HttpxSend() as send:
        with pytest.raises(GitHubError, match=f"401 {complaint}") as caught:
            await token_of(send, base, sign).get()
    assert "eyJ" not in str(caught.value)


@on_both
async def test_unknown_installation_is_not_found(base: str) -> None:
    async with HttpxSend() as send:
        with pytest.raises(GitHubError, match="404 Not Found"):
            await token_of(send, base, number=43).get()


@on_both
async def test_pages_are_all_read_in_order(base: str) -> None:
    largest = max(SEED["repositories"], key=lambda one: len(one["issues"]))
    async with app(base) as github:
        found = [issue async for issue in github.issues(largest["full_name"], state="all")]
    assert [(issue["title"], issue["state"]) for issue in found] == [
        (issue["title"], issue["state"]) for issue in largest["issues"]
    ]
    assert github.counts["pages of issues"].asked == -(-len(found) // ISSUES_PER_PAGE) > 1


@on_both
async def test_what_is_confirmed_costs_nothing() -> None:
    with another_server("--limit", "2") as base:
        async with app(base) as github:
            users = [await github.user("ada") for _ in range(5)]
            assert users == [users[0]] * 5
            assert github.rate_limit is not None
            assert (github.rate_limit.limit, github.rate_limit.remaining) == (2, 1)
            await github.user("grace")
            with pytest.raises(GitHubError, match="403 API rate limit exceeded"):
                await github.user("tony")
            assert github.rate_limit.remaining == 0


@on_both
async def test_absent_is_not_found(base: str) -> None:
    async with app(base) as github:
        with pytest.raises(GitHubError, match=r"GET http://127.0.0.1:\d+/users/nobody: 404 Not Found"):
            await github.user("nobody")


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        ("truncated", OSError, r"GET \S+: ."),  # and why, in httpx's words
        ("hang", TimeoutError, "no answer in time"),
        ("error", GitHubError, "500 Server Error"),
        ("unasked", GitHubError, "304"),
    ],
)
@on_both
async def test_broken_answer_fails_and_leaves_the_client_usable(
    base: str, fault: str, error: type[Exception], says: str
) -> None:
    async with app(base) as github:
        await github.user("ada")  # has the token, which the short time below is not for
        if fault == "hang":
            github._send._client.timeout = httpx.Timeout(0.3)  # type: ignore[attr-defined]
        for _ in range(2):
            with pytest.raises(error, match=says):
                await github.get("users", f"users/ada?fault={fault}")
        github._send._client.timeout = httpx.Timeout(10)  # type: ignore[attr-defined]
        assert (await github.user("ada"))["login"] == "ada"


@on_both
async def test_slow_answer_comes(base: str) -> None:
    async with app(base) as github:
        assert json.loads((await github.get("users", "users/ada?slow=0.01")).body)["login"] == "ada"
        with pytest.raises(GitHubError, match="422 slow must be a number"):
            await github.get("users", "users/ada?slow=nan")


@on_both
async def test_server_that_is_not_there_is_an_oserror() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with HttpxSend() as send:
        with pytest.raises(OSError, match=f"GET http://127.0.0.1:{port}/users/ada"):
            await GitHub(send, f"http://127.0.0.1:{port}").user("ada")


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("", None),
        ('<http://a/x?page=1>; rel="prev"', None),
        ('<http://a/x?page=1>; rel="prev", <http://a/x?page=3>; rel="next"', "http://a/x?page=3"),
        ('<x?page=3>; title="a"; rel="last next"', "http://a/x?page=3"),
        ("<x>; rel=next, <y>; rel=last", "http://a/x"),
    ],
)
def test_next_page_is_where_link_says(link: str, expected: str | None) -> None:
    assert next_page(link, "http://a/") == expected


@pytest.mark.parametrize("elsewhere", ["http://b/x", "https://a/x", "//b/x"])
def test_token_is_not_taken_to_another_server(elsewhere: str) -> None:
    with pytest.raises(ValueError, match="not going there"):
        next_page(f'<{elsewhere}>; rel="next"', "http://a/")


def test_static_instance_is_nobody_until_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "_instance", static.Global(static._instance._default))
    nobody = static.instance()
    assert (nobody._base, nobody._token) == ("https://api.github.com/", None)
    assert static.instance() is nobody
    given = GitHub(nobody._send, "http://a")
    assert static.initialise(given) is nobody
    assert static.instance() is given


def test_claims_begin_a_minute_ago_and_end_in_nine() -> None:
    assert claims(7, 1000.9) == {"iat": 940, "exp": 1540, "iss": "7"}


@on_both
async def test_secrets_are_in_no_repr(base: str) -> None:
    async with HttpxSend() as send:
        installation: Any = Installation(7, 42, SIGN)
        token = installation.token(send, base)
        secret = await token.get()
        reply = await send("GET", f"{base}/users/ada", {"Authorization": f"Bearer {secret}"})
        assert secret not in f"{token!r} {reply!r} {installation!r}"
