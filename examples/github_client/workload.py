"""What the example does: look around as nobody, then fetch everything twice as an app, with many tasks at once."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

import attrs

from examples.github_client.github import Counts, GitHub, GitHubError, Installation, Json, RateLimit, Send, Signer
from examples.github_client.loops import Work
from examples.github_client.static import initialise, instance

KEY_VARIABLE = "GITHUB_APP_PRIVATE_KEY"
RunAll = Callable[[Sequence[Work]], Awaitable[None]]
Table = dict[str, dict[str, Counts]]  # counts of each kind, of each part


@attrs.frozen
class Job:
    """Which server, as whom, by how many tasks."""

    base: str
    loop: str
    tasks: int
    freshness: bool = False  # may the cache answer unasked?
    app_id: int = 7
    installation: int = 42


async def run(job: Job, send: Send, sign: Signer, run_all: RunAll) -> int:
    """Do it, print what came of it, and compare that with what the server saw; the exit code."""
    code = 1
    try:
        code = await _run(job, send, sign, run_all)
    except* (GitHubError, OSError) as group:
        print(f"github_client: {first(group)}", file=sys.stderr)
    return code


def first(group: BaseExceptionGroup[Exception]) -> BaseException:
    """One error of a group that may hold groups."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


async def _run(job: Job, send: Send, sign: Signer, run_all: RunAll) -> int:
    table: Table = {}
    nobody = GitHub(send, job.base)
    initialise(nobody)
    logins = [user["login"] async for user in instance().users()]
    names = [repo["full_name"] for login in logins for repo in [r async for r in instance().repositories(login)]]
    table["as nobody"] = nobody.counts.snapshot()

    installation = Installation(job.app_id, job.installation, sign)
    app = GitHub(send, job.base, installation.token(send, job.base))
    assert initialise(app) is nobody
    found = []
    for part in ("as an app", "once more"):
        before = app.counts.snapshot()
        found.append(await fetch_all(logins, names, job.tasks, run_all))
        table[part] = {kind: counts - before.get(kind, Counts()) for kind, counts in app.counts.snapshot().items()}

    print(f"{job.tasks} tasks on {job.loop}, at {job.base}\n")
    show(table, {"as nobody": nobody.rate_limit, "as an app": app.rate_limit})
    seen = {"not modified": 0, **json.loads((await send("GET", f"{job.base}/_tally", {})).body)}
    return complain(table, seen, [nobody.rate_limit, app.rate_limit], same=found[0] == found[1])


async def fetch_all(logins: list[str], names: list[str], tasks: int, run_all: RunAll) -> dict[str, object]:
    """Every user, every repository and its issues, each asked for by whichever task is free."""
    found: dict[str, object] = {}

    async def store(name: str, ask: Callable[[], Awaitable[object]]) -> None:
        found[name] = await ask()

    github = instance()
    work = [partial(store, f"user {login}", partial(github.user, login)) for login in logins]
    for name in names:
        work.append(partial(store, f"repository {name}", partial(github.repository, name)))
        work.append(partial(store, f"issues {name}", partial(listed, partial(github.issues, name))))

    async def worker() -> None:
        while work:
            await work.pop()()

    await run_all([worker] * tasks)
    return found


async def listed(items: Callable[[], AsyncIterator[Json]]) -> list[Json]:
    """All of them, whatever the number of pages."""
    return [item async for item in items()]


def show(table: Table, limits: dict[str, RateLimit | None]) -> None:
    """The table, and what is left of the rate limits."""
    print(f"{'':24}{'asked':>12}{'from cache':>12}{'spent':>12}")
    for part, kinds in table.items():
        print(part)
        for kind, counts in sorted(kinds.items()):
            _row(f"  {kind}", counts)
    _row("in all", total(table))
    for part, limit in limits.items():
        if limit is not None:
            print(f"rate limit {part}: {limit.remaining} of {limit.limit} left")


def _row(name: str, counts: Counts) -> None:
    print(f"{name:24}{counts.asked:>12}{counts.from_cache:>12}{counts.spent:>12}")


def total(table: Table) -> Counts:
    """Of all kinds in all parts."""
    return sum((counts for kinds in table.values() for counts in kinds.values()), Counts())


def complain(table: Table, seen: dict[str, int], limits: list[RateLimit | None], *, same: bool) -> int:
    """Say where the server's figures, or the two answers, differ from ours; the exit code."""
    counted = total(table)
    print(f"the cache saved {counted.from_cache} answers: {counted.confirmed} were confirmed by a 304, ", end="")
    print(f"{counted.unasked} were fresh and cost no request at all")
    used = sum(limit.used for limit in limits if limit is not None)
    print(f"the server saw {seen['requests']} requests, answered {seen['not modified']} by 304, ", end="")
    print(f"gave out {seen['tokens']} token{'' if seen['tokens'] == 1 else 's'}, counted {used} against the limits")
    expected = {"requests": counted.asked - counted.unasked, "not modified": counted.confirmed, "tokens": 1}
    if seen == expected and used == counted.spent and same:
        return 0
    print(f"but it should have been {expected}, {counted.spent} counted, and the same answer twice", file=sys.stderr)
    return 1
