"""Who waits for whom.

A task that is about to park looks whether the owner of what it waits for waits itself, and for what, and
so on; if the chain comes back to it, waiting could never end. Every wait is noted in `waits` before anybody looks, so
the last one to close a cycle sees the whole of it. Only a look that meets an owner who waits goes under the lock:
there exactly one task of a cycle finds it, because the finder takes its own wait out before it leaves.

`waits` refers to tasks weakly, and what a ticket refers to leads to no task, so nothing here keeps a task alive.
"""

from __future__ import annotations

import warnings
from _thread import allocate_lock
from collections.abc import Hashable, Iterator
from typing import Any, Literal
from weakref import ref

from asynclocks._engine.ticket import State, Ticket
from asynclocks.backends import task_name
from asynclocks.exceptions import DeadlockError

POLICIES = ("raise", "warn", "off")

Policy = Literal["raise", "warn", "off"]

_policy: Policy = "raise"
_graph = allocate_lock()
waits: dict[Hashable, Ticket] = {}  # the ticket that each waiting task waits with, by the task's key


def key_of(task: Any) -> Hashable:
    """By what a task's wait is noted: a weak reference or, of a task that is a number or the like, the task."""
    try:
        return ref(task)
    except TypeError:
        return task  # type: ignore[no-any-return]


def set_deadlock_policy(policy: Policy) -> Policy:
    """Decide what happens to a task whose wait could never end; returns the policy until now.

    "raise" (the default) gives it DeadlockError, "warn" gives a RuntimeWarning and lets it wait, "off" does
    not look. The policy is the process's.

    Raises:
        ValueError: no such policy.

    >>> set_deadlock_policy("warn")
    'raise'
    >>> set_deadlock_policy("raise")
    'warn'
    """
    global _policy
    if policy not in POLICIES:
        raise ValueError(f"set_deadlock_policy: {policy!r} is none of {', '.join(map(repr, POLICIES))}")
    old, _policy = _policy, policy
    return old


def check(task: Any, ticket: Ticket) -> None:
    """Refuse a wait that could never end. It is noted in `waits` already, and somebody it waits for waits too.

    Raises:
        DeadlockError: by the policy "raise".
    """
    policy = _policy
    if policy == "off":
        return
    with _graph:
        cycle = _find_cycle(task, ticket)
        # Others go on while we look. What was the same twice, and waited all the time, is a cycle.
        if cycle is None or cycle != _find_cycle(task, ticket) or ticket.state is not State.QUEUED:
            return
        if policy == "raise":
            del waits[key_of(task)]
    links = _in_words(task, cycle)
    if policy == "raise":
        raise DeadlockError(links)
    warnings.warn(f"deadlock: {'; '.join(links)}", RuntimeWarning, stacklevel=2)


def _find_cycle(task: Any, ticket: Ticket) -> list[tuple[Ticket, Any]] | None:
    """The waits that lead from this task back to it, each with whom it waits for."""
    path: list[tuple[Ticket, Any]] = []
    branches = [_owners(ticket)]
    tickets = [ticket]
    seen = set()
    while branches:
        other = next(branches[-1], None)
        if other is None:
            branches.pop()
            tickets.pop()
            if path:
                path.pop()
            continue
        if other == task:
            return [*path, (tickets[-1], other)]
        wait = None if other in seen else waits_now(other)
        seen.add(other)
        if wait is not None:
            path.append((tickets[-1], other))
            tickets.append(wait)
            branches.append(_owners(wait))
    return None


def _owners(ticket: Ticket) -> Iterator[Any]:
    owners = ticket.synchronizer._owners(ticket)
    return (task for owner in owners if (task := owner()) is not None)


def waits_now(task: Any) -> Ticket | None:
    """The ticket that this task waits with, None if it does not wait or is about to give up."""
    wait = waits.get(key_of(task))
    return wait if wait is not None and wait.state is State.QUEUED and not wait.gives_up() else None


def _in_words(task: Any, cycle: list[tuple[Ticket, Any]]) -> tuple[str, ...]:
    links = []
    for ticket, owner in cycle:
        links.append(f"task {task_name(task)!r} waits for {ticket.synchronizer} held by task {task_name(owner)!r}")
        task = owner
    return tuple(links)
