"""Who waits for whom.

A task or thread that is about to park looks whether the owner of what it waits for waits itself, and for what, and
so on; if the chain comes back to it, waiting could never end. Every wait is noted in `waits` before anybody looks, so
the last one to close a cycle sees the whole of it. Only a look that meets an owner who waits goes under the lock:
there exactly one task of a cycle finds it, because the finder takes its own wait out before it leaves.

Tasks also wait for the end of other tasks, as far as their loop tells (`LoopBackend.awaiters`, `awaited`). Whoever
awaits the looking task, or awaits somebody who does, is as good an end of the chain as that task itself. A task that
holds nothing is not noted in `waits` (`synchronizer` says why); the coroutine that it sleeps in has its ticket.

A task that starts a child and waits for it later cannot be told from one that lets go first. While the owner is one
of those who will wait, the child looks again from time to time (`Look.AGAIN`). Where nobody tells who will wait, a
timer of the loop looks at the waits that have stood for a while (`is_stuck`), and rouses one whose circle has closed.

`waits` refers to tasks weakly, and what a ticket refers to leads to no task, so nothing here keeps a task alive.
"""

from __future__ import annotations

import warnings
from _thread import allocate_lock
from collections.abc import Hashable, Iterator
from enum import Enum
from gc import get_referents
from itertools import islice
from sys import getrefcount
from typing import Any, Literal, TypeAlias
from weakref import ref

from asynclocks._engine.ticket import State, Ticket
from asynclocks._forks import freed_in_child
from asynclocks.backends import backend_of, in_words, running_task
from asynclocks.backends.seam import LoopBackend, coroutines_in, slept_in
from asynclocks.exceptions import DeadlockError

POLICIES = ("raise", "warn", "off")

Policy = Literal["raise", "warn", "off"]

_policy: Policy = "raise"
_graph = freed_in_child(allocate_lock())
# The `id` of each ticket that somebody waits with until a deadline. One whose wait was struck as it ended may stay. It
# keeps no lock alive; at worst another ticket gets its `id`, and a deadlock behind that one is not told.
limited: set[int] = set()
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


Link: TypeAlias = "tuple[Any, Ticket | None, Any]"  # who waits, with which ticket (None: awaits), for whom

MOST_BEFORE = 8  # who stand before one in a circle and are asked whether they stay; of the others it is not guessed
MOST_AWAITED = 64  # children that one look asks what they wait for; one of the looking task's own line is always found


class Look(Enum):
    """What a look at the graph says."""

    NO_CYCLE = "somebody in the chain does not wait"
    AGAIN = "the owner does not wait for this task yet, but will if it does not let go before"


def awaited_by_a_holder(task: Any, ticket: Ticket) -> bool:
    """Is this task, which holds nothing, awaited by one that holds anything, now or in time? Else nobody waits for it.

    An owner in the middle of a step may be about to await it.
    """
    return any(map(_holds_something, _lines_above(task)[1])) or any(map(_is_starting, _owners(ticket)))


def _holds_something(task: Any) -> bool:
    # As `_acquire` says: whatever it holds refers to it by one and the same weak reference.
    reference = ref(task)
    return getrefcount(reference) > UNSHARED


def _references_to_a_new_reference() -> int:
    task = Ticket.unpark
    reference = ref(task)
    return getrefcount(reference)


UNSHARED = _references_to_a_new_reference()


def check(task: Any, ticket: Ticket) -> Look:
    """Refuse a wait that could never end. It is noted in `waits` already, and somebody it waits for waits too.

    Raises:
        DeadlockError: by the policy "raise".
    """
    policy = _policy
    if policy == "off":
        return Look.NO_CYCLE
    with _graph:
        ends, later = _lines_above(task)
        cycle = _find_cycle(task, ticket, ends)
        if cycle is None:
            return Look.AGAIN if any(one in later or _is_starting(one) for one in _owners(ticket)) else Look.NO_CYCLE
        if not _stands(cycle, task, ticket):
            return Look.NO_CYCLE
        if policy == "raise":
            del waits[key_of(task)]
    links = tuple(map(_in_words, cycle))
    if policy == "raise":
        raise DeadlockError(links, _way_out(cycle))
    warnings.warn(f"deadlock: {'; '.join(links)}", RuntimeWarning, stacklevel=2)
    return Look.NO_CYCLE


def _stands(cycle: list[Link], task: Any, ticket: Ticket) -> bool:
    # Others go on while we look. What was the same twice, and waited all the time, is a cycle.
    if cycle != _find_cycle(task, ticket, _lines_above(task)[0]) or ticket.state is not State.QUEUED:
        return False
    return not any(
        (_ends_by_itself(one, other) if wait is None else _is_held_up_for_a_while(wait)) or _is_being_cancelled(one)
        for one, wait, other in cycle
    )


def _is_held_up_for_a_while(ticket: Ticket) -> bool:
    """Do none but some before it in line keep it waiting, who will leave that by themselves?

    Or nobody any more, while another thread is about to let it in.
    """
    before = ticket.synchronizer._held_up_by(ticket)
    return before is not None and all(map(_leaves_by_itself, islice(before, MOST_BEFORE)))


def _leaves_by_itself(ticket: Ticket) -> bool:
    """Has whoever waits with this ticket limited the time, or been cancelled?"""
    if id(ticket) in limited or ticket.gives_up():
        return True
    task = ticket.whose()
    backend = None if task is None else _told_by(task)
    return backend is not None and (backend.is_being_cancelled(task) or backend.has_a_time_limit(task))


def _is_being_cancelled(task: Any) -> bool:
    backend = _told_by(task)
    return backend is not None and backend.is_being_cancelled(task)


def is_stuck(ticket: Ticket) -> bool:
    """Did others close a circle after the task that sleeps with this ticket had parked? To be asked between two steps.

    A circle in which anybody who awaits another has limited its own time ends by itself.
    """
    task = ticket.whose()
    backend = None if task is None or _policy == "off" else _told_by(task)
    if backend is None or ticket_of(backend.coroutine(task)) is not ticket:  # or it waits until a deadline
        return False
    with _graph:
        cycle = _find_cycle(task, ticket, _lines_above(task)[0])
        return cycle is not None and _stands(cycle, task, ticket) and not any(map(_has_a_limit, cycle))


def _has_a_limit(link: Link) -> bool:
    task, ticket, _ = link
    backend = None if ticket is not None else _told_by(task)
    return backend is not None and backend.has_a_time_limit(task)


def look_again(ticket: Ticket) -> None:
    """`check`, by the running task, which waits with this ticket and was roused.

    Raises:
        DeadlockError: as there.
    """
    task = running_task()
    if task is None:  # a callback drives a coroutine
        return
    key = key_of(task)
    is_noted = key in waits
    try:
        waits[key] = ticket
        check(task, ticket)
    finally:
        if not is_noted:
            waits.pop(key, None)


def _lines_above(task: Any) -> tuple[dict[Hashable, list[Link]], list[Any]]:
    """Who awaits this task, or somebody who does, each with the links from there to it; and who will in time."""
    ends: dict[Hashable, list[Link]] = {task: []}
    above = [task]  # the ends, and those who will
    for child in above:
        backend = _told_by(child)
        for parent, now in () if backend is None else backend.awaiters(child):
            if now and child in ends:
                ends.setdefault(parent, [(parent, None, child), *ends[child]])
            if parent not in above:
                above.append(parent)
    return ends, above[1:]


def _told_by(task: Any) -> LoopBackend | None:
    """What tells what this task does; None if nobody can tell. What cannot be told is not guessed."""
    backend = backend_of(task)
    return backend if backend is not None and backend.holds_still(task) else None


def _is_starting(owner: Any) -> bool:
    """Is this one in the middle of a step, in which it starts the looking task? It may await that one next."""
    backend = _told_by(owner)
    return backend is not None and backend.is_starting_another(owner)


def _ends_by_itself(parent: Any, child: Any) -> bool:
    """Is the time of one of them limited, as far as it awaits the other, or is awaited by it?"""
    backend = _told_by(parent)
    return backend is not None and (backend.gives_up_awaiting(parent) or backend.has_a_time_limit(child))


def _find_cycle(task: Any, ticket: Ticket, ends: dict[Hashable, list[Link]]) -> list[Link] | None:
    """The waits that lead from this task back to it, or to one of the `ends`, who await it."""
    path: list[Link] = []
    branches: list[Iterator[Link]] = [iter([(task, ticket, owner) for owner in _owners(ticket)])]
    seen = set()
    budget = [MOST_AWAITED]
    while branches:
        link = next(branches[-1], None)
        if link is None:
            branches.pop()
            if path:
                path.pop()
            continue
        other = link[2]
        if other in ends:
            return [*path, link, *ends[other]]
        if other not in seen:
            seen.add(other)
            path.append(link)
            branches.append(_links_of(other, budget))
    return None


def _links_of(task: Any, budget: list[int]) -> Iterator[Link]:
    """For whom this task waits, now and with nobody to end it but them."""
    wait = waits_now(task)
    if wait is not None:
        yield from ((task, wait, owner) for owner in _owners(wait))
        return
    backend = _told_by(task)
    if backend is None:
        return
    wait = ticket_of(backend.coroutine(task))
    if wait is not None:
        if wait.synchronizer._followed and _is_waiting(wait):
            yield from ((task, wait, owner) for owner in _owners(wait))
        return
    for child in backend.awaited(task):
        if budget[0] == 0:
            return
        budget[0] -= 1
        yield (task, None, child)


def ticket_of(coroutine: Any) -> Ticket | None:
    """The ticket that who sleeps in this coroutine waits with, without a deadline."""
    one: Any = coroutine
    for one in coroutines_in(coroutine):
        code, frame = getattr(one, "cr_code", None), getattr(one, "cr_frame", None)
        if code is not None and code.co_qualname == "QueuedSynchronizer._acquire" and frame is not None:
            found = frame.f_locals
            return found.get("ticket") if found.get("deadline") is None else None
    # Where the engine is compiled: what is awaited in the place of that coroutine refers to its ticket.
    behind = get_referents(slept_in(one))
    return next((found for found in behind if isinstance(found, Ticket)), None)


def _owners(ticket: Ticket) -> Iterator[Any]:
    owners = ticket.synchronizer._owners(ticket)
    return (task for owner in owners if (task := owner()) is not None)


def waits_now(task: Any) -> Ticket | None:
    """The ticket that this task waits with, None if it does not wait, is not noted, or is about to give up."""
    wait = waits.get(key_of(task))
    return wait if wait is not None and _is_waiting(wait) else None


def _is_waiting(ticket: Ticket) -> bool:
    return ticket.state is State.QUEUED and not ticket.gives_up()


def _in_words(link: Link) -> str:
    task, ticket, other = link
    if ticket is None:
        return f"{in_words(task)} awaits {in_words(other)}"
    return f"{in_words(task)} waits for {ticket.synchronizer} held by {in_words(other)}"


def _way_out(cycle: list[Link]) -> str:
    """What to do about it: what there is for these very locks."""
    locks = {ticket.synchronizer.kind: ticket for _, ticket, _ in cycle if ticket is not None}
    ways = ["take locks in one order everywhere"] if len(cycle) > 1 and not _awaits(cycle) else []
    ways += ["do not await a task that waits for what you hold"] if _awaits(cycle) else ["release before waiting"]
    ways += dict.fromkeys(ticket.synchronizer._way_out(ticket) for ticket in locks.values())
    text = ", or ".join(ways)
    return text[0].upper() + text[1:]


def _awaits(cycle: list[Link]) -> bool:
    return any(ticket is None for _, ticket, _ in cycle)
