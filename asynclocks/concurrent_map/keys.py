"""The keys of a ConcurrentMap that somebody holds or waits for.

A key is held by a guard, a flight (one run of an ``init``) or a ``compute``. Its bookkeeping is one small synchronizer,
made when somebody comes and dropped when nobody is left. The commonest hold, one that meets nobody, does without: until
somebody else comes, the hold stands in the map's table by itself. It is a `LoneHold` or, of ``async with
map.entry(key)``, the `Entry`.

Locks are taken in one order only: a flight's, a key's, the map's. Whoever is inside the map's lock takes
no other, and a finalizer waits for none: what it cannot do at once is left to whoever is inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from asynclocks._engine.synchronizer import GRANTED, RELEASED, WITHDRAWN, QueuedSynchronizer, Reentered, Ticket
from asynclocks._engine.ticket import up_to

# What a ticket asks of a key. A ticket that comes back with another synchronizer instead is to look there.
EXCLUSIVE: Any = "an entry"
SHARED: Any = "a ref"
FLIGHT: Any = "a flight"


class Mark:
    """What stands where a value might."""

    __slots__ = ()


MISSING: Any = Mark()  # no value: of an absent key, or of an entry that removes it
UNCHANGED: Any = Mark()  # of an entry that changes nothing
GONE: Any = Mark()  # of an entry that let go
UNUSED: Any = Mark()  # of one that was neither awaited nor entered yet


class KeyTable(Protocol):
    """What a key's line and a flight need of the map."""

    _held: dict[Any, Any]

    def get(self, key: Any, default: Any) -> Any: ...
    def _inside(self, change: Callable[..., Any], *args: Any) -> Any: ...
    def _is_inside(self) -> bool: ...
    def _clean_up(self, item: Any) -> None: ...
    def _line_of(self, key: Any) -> KeyLock: ...
    def _title(self) -> str: ...
    def _name_of_key(self, key: Any) -> str: ...


class SingleFlight(Protocol):
    """What a key's line needs of a flight that stands in it."""

    over: bool

    def waiting(self) -> int: ...


class Alone(Protocol):
    """What a key's line needs of what holds the key and met nobody until now."""

    @property
    def _idle(self) -> bool: ...
    def stand_in(self, line: KeyLock) -> None: ...


class KeyName:
    """A key in messages; it is asked for its repr only when there is one."""

    __slots__ = ("_key", "_map")

    def __init__(self, of: KeyTable, key: Any) -> None:
        self._map = of
        self._key = key

    def __str__(self) -> str:
        return self._map._name_of_key(self._key)


class KeyLock(QueuedSynchronizer):
    """One key's line: one exclusive holder, or any number of readers.

    It is in the map's table while it is not idle, and perhaps a moment longer: an idle one is as good as none.
    It becomes busy inside the map's lock only, so that whoever finds it idle there may drop it.
    """

    __slots__ = ("_idle", "flight", "holder", "key", "map", "readers")

    kind = "key"
    _told_of_forks = False

    def __init__(self, of: KeyTable, key: Any) -> None:
        super().__init__()
        self.map: KeyTable = of
        self.key: Any = key
        self._idle = True
        self.holder: Ticket | None = None
        self.readers: dict[Ticket, None] = {}
        self.flight: SingleFlight | None = None  # the last that stood in this line; it may be over

    # The engine's questions.
    def _admit(self, ticket: Ticket) -> bool:
        if self.holder is not None:
            return False
        if ticket.request is SHARED:
            self.readers[ticket] = None
            return True
        if self.readers:
            return False
        self.holder = ticket
        return True

    def _retract(self, ticket: Ticket) -> None:
        if self.holder is ticket:
            self.holder = None
        else:
            self.readers.pop(ticket, None)
        self._rest()

    def _withdraw(self, ticket: Ticket) -> None:
        super()._withdraw(ticket)
        if not self._idle:  # one that was interrupted before it stood in line
            self._rest()

    def _rest(self) -> None:
        """Be idle, if nobody is left."""
        if self.holder is None and self._head is None and not self.readers:
            self._idle = True
            self.map._clean_up(self)

    def _after_fork(self) -> None:
        flight: Any = self.flight
        if flight is not None and not flight.over:
            flight._after_fork()
        super()._after_fork()

    def _owners(self, ticket: Ticket | None = None) -> Iterable[Any]:
        holder = self.holder
        holds = list(self.readers) if holder is None else [holder]  # not a tuple: without a GIL that is no one step
        # One that got this line as it let go is cleared away in this moment: nobody waits for it.
        return [hold.owner for hold in holds if hold.owner is not None and hold.state is not RELEASED]

    def _held_up_by(self, ticket: Ticket) -> list[Ticket] | None:
        if self.holder is not None or ticket.request is not SHARED:
            return None
        return [one for one in up_to(ticket.before) if one.request is not SHARED]

    def waiting(self) -> int:
        """How many callers wait here: not flights but their passengers."""
        flight = self.flight
        if flight is None or flight.over:
            return self._waiting
        return self._waiting + flight.waiting()

    # Changes, inside this key's lock.
    def _join(self, ticket: Ticket) -> bool:
        return bool(self.map._inside(self._enter, ticket, super()._join))

    def _join_or_leave(self, ticket: Ticket) -> bool:
        return bool(self.map._inside(self._enter, ticket, super()._join_or_leave))

    def _enter(self, ticket: Ticket, join: Callable[[Ticket], bool]) -> bool:
        """`join`, if this is the key's present line; else say which one is. Inside the map's lock."""
        present = self.map._held.setdefault(self.key, self)
        if present is not self:
            if isinstance(present, KeyLock):
                return look_at(present, ticket)
            self._take_over(present)
        if ticket.request is FLIGHT:
            if self.flight is not None and not self.flight.over:
                return look_at(self.flight, ticket)
            self.flight = ticket.flight  # type: ignore[attr-defined]
        self._idle = False
        return join(ticket)

    def _take_over(self, present: Alone) -> None:
        """Take the place of what met nobody until now. Inside the map's lock."""
        if not present._idle:
            present.stand_in(self)
            self._idle = False
        self.map._held[self.key] = self

    def hold_for(self, request: Any, owner: Any) -> Ticket:
        """A hold that is granted without a look. Inside the map's lock."""
        hold: Ticket = self._fill_in(Ticket(), request, owner)
        self.let_in(hold)
        hold.state = GRANTED
        return hold

    def let_in(self, hold: Ticket) -> None:
        if hold.request is SHARED:
            self.readers[hold] = None
        else:
            self.holder = hold

    # A finalizer or a key's own __eq__ may run while this thread is inside the map's lock: then wait for nobody.
    def _transact(self, change: Callable[[Any], Any], argument: Any) -> Any:
        if self.map._is_inside():
            raise Reentered(f"{self} was used by a finalizer or a key's __eq__ in the middle of the map's own work")
        return super()._transact(change, argument)

    def _give(self, change: Callable[[Any], object], argument: Any) -> bool:
        if self.map._is_inside():
            self._give_from_finalizer(change, argument)
            return True
        return super()._give(change, argument)

    # For people.
    def _way_out(self, ticket: Ticket) -> str:
        holder = self.holder
        if holder is not None and holder.request is FLIGHT:
            return "let no init wait for its own key"
        own = "use the entry that holds the key" if holder is not None else "release the ref before"
        return f"{own}, or call its disown() if somebody else will release it"

    def _title_without_values(self) -> str:
        return f"a key of {self.map._title()}"

    def __str__(self) -> str:
        return self.map._name_of_key(self.key)

    def _describe(self) -> str:
        return "idle" if self._idle else f"held, {self._waiting} waiting"


class LoneHold(Ticket):
    """A hold on a key that nobody else asked for until now. It stands in the map's table itself, and has no line.

    GRANTED is what stands there, with a line or without. One that let go and is still there is as good as none.
    """

    __slots__ = ("key",)

    def __init__(self, key: Any, request: Any, owner: Any) -> None:
        self.key: Any = key
        self.request = request
        self.owner = owner
        self.state = WITHDRAWN
        self.synchronizer = None  # the line, once somebody else has come; it changes inside the map's lock

    @property
    def _idle(self) -> bool:
        # As a KeyLock's.
        return self.state is not GRANTED

    @property
    def _hold(self) -> Ticket:
        # As a guard's.
        return self

    def _owners(self) -> Iterable[Any]:
        # As a KeyLock's.
        return () if self.owner is None else (self.owner,)

    def stand_in(self, line: KeyLock) -> None:
        """Have this line: somebody else asks for the key. Inside the map's lock."""
        self.synchronizer: Any = line
        line.let_in(self)


def look_at(other: object, ticket: Ticket) -> bool:
    """Grant nothing but the knowledge where to ask."""
    ticket.request = other
    ticket.state = GRANTED
    return True
