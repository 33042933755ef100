"""Anybody's backend, as the engine uses it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from asynclocks._engine.ticket import Ticket
from asynclocks.backends.seam import Backend, LoopBackend, ParkerTicket


class ForeignBackend(LoopBackend):
    """Anybody's backend as the engine uses it."""

    def __init__(self, backend: Backend, backend_of_type: dict[type, LoopBackend]) -> None:
        self.name: str = backend.name
        self.checkpoints: bool = getattr(backend, "checkpoints", True)
        self._backend = backend
        self._backend_of_type = backend_of_type  # the registry's

    def current_task(self) -> Hashable:
        task = self._backend.current_task()
        self._backend_of_type.setdefault(type(task), self)  # somebody's own loop may run another's tasks, asyncio's say
        return task

    def task_name(self, task: Any) -> str:
        return self._backend.task_name(task)

    def coroutine(self, task: Any) -> Any:
        extra = getattr(self._backend, "coroutine", super().coroutine)
        return extra(task)

    def now(self) -> float:
        extra: Callable[[], float] = getattr(self._backend, "now", super().now)
        return extra()

    async def checkpoint_if_cancelled(self) -> None:
        await self._backend.checkpoint_if_cancelled()

    async def cancel_shielded_checkpoint(self) -> None:
        await self._backend.cancel_shielded_checkpoint()

    async def detach(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await getattr(self._backend, "detach", super().detach)(function)

    def parker(self) -> Any:
        parker = self._backend.parker()
        return parker if isinstance(parker, Ticket) else ParkerTicket(parker)
