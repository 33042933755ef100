"""What is left of a task that will not run again, and how to let go of it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import ref

from asynclocks._engine.ticket import State, Ticket

PATIENCE = 10  # how often a coroutine may go on sleeping though it is closed


def end(task: asyncio.Task[Any]) -> None:
    """Close the coroutine of a task that will not run again. It may take some persuasion to end."""
    coroutine: Any = task.get_coro()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it did not forget to end
    for _ in range(PATIENCE):
        try:
            coroutine.close()
        except ValueError:  # its stack was switched out in the middle of a plain call
            return
        except BaseException as error:  # noqa: BLE001  # what its last words are
            context = {"message": "a task that died with its request ended with an error", "exception": error}
            task.get_loop().call_exception_handler({**context, "task": task})
        else:
            return


def held_by(tasks: Iterable[asyncio.Task[Any]]) -> Iterator[Any]:
    """The locks whose owner is one of these tasks. Whatever has an owner refers to it by the one weak reference.

    To find that takes one look at all objects there are, however many the tasks.
    """
    for found in gc.get_referrers(*map(ref, tasks)):
        if isinstance(found, Ticket):
            if getattr(found, "state", None) is State.GRANTED and found.synchronizer is not None:
                yield found.synchronizer  # there is none where nobody ever came to a map's key
        elif hasattr(found, "_transact") and getattr(found, "_held", None) is not None:  # a mutex held by a block
            yield found
