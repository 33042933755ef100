"""A storage as the exchange uses it: plain or of coroutines, with or without the extras, whole or failing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, Literal

from asynclocks.recipes._stored import AnyStorage, Header, Kind, StoredResponse, Validator

OnError = Literal["miss", "raise"]

FAILED: Final = object()


class Shelf:
    """Asks a storage. If that fails, nothing was found or nothing is stored, and one warning says so.

    With ``on_error="raise"`` what the storage raises reaches the caller instead.
    """

    def __init__(self, storage: AnyStorage, on_error: OnError) -> None:
        if on_error not in {"miss", "raise"}:
            raise ValueError(f"on_storage_error is {on_error!r}; it must be 'miss' or 'raise'")
        self._storage = storage
        self._raises = on_error == "raise"
        self._warned = False
        self._varies: Any = getattr(storage, "varies", None)
        self._invalidate: Any = getattr(storage, "invalidate", None)
        self._note: Any = getattr(storage, "note", None)
        # What came before this time may be out of date, since it could not be invalidated.
        self.doubted = -math.inf

    @property
    def knows_freshness(self) -> bool:
        """Can the storage tell and forget the responses of one URI?"""
        return self._varies is not None and self._invalidate is not None

    async def try_hit(self, key: Hashable) -> Validator | None:
        """What to validate the stored response with, if there is one."""
        found: Validator | None = await self.ask(self._storage.try_hit, key)
        return found

    async def load(self, key: Hashable) -> StoredResponse | None:
        """The stored response, if it is still there."""
        found: StoredResponse | None = await self.ask(self._storage.load, key)
        return found

    async def writer(self, key: Hashable, validator: Validator, status: int, headers: Iterable[Header]) -> Any:
        """What takes in a response; None if it is not to be stored."""
        return await self.ask(self._storage.writer, key, validator, status, headers)

    async def varies(self, key: Hashable) -> Iterable[str]:
        """What divides the responses of the key's URI."""
        return await self.ask(self._varies, key) or ()

    async def invalidate(self, key: Hashable, now: float) -> None:
        """Forget the responses of the key's URI, or, if that fails, doubt all that came until now."""
        if await self.ask(self._invalidate, key, failed=FAILED) is FAILED:
            self.doubted = now

    async def note(self, kind: Kind) -> None:
        """How a request ended."""
        if self._note is not None:
            await self.ask(self._note, kind)

    async def store(
        self, key: Hashable, validator: Validator, status: int, headers: Iterable[Header], body: bytes
    ) -> None:
        """Store a whole response."""
        writer = await self.writer(key, validator, status, headers)
        if writer is not None and await self.ask(writer.write, body, failed=FAILED) is not FAILED:
            await self.ask(writer.finish)

    async def ask(self, method: Callable[..., Any], *args: Any, failed: Any = None) -> Any:
        """What a method of the storage's, or of a writer's, returns; `failed` if it raises."""
        try:
            result = method(*args)
            return await result if hasattr(result, "__await__") else result
        except Exception as error:
            if self._raises:
                raise
            self._warn(error)
            return failed

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"the HTTP cache's storage failed ({type(error).__name__}: {error}). Requests go on without it, and no "
                "more is said of this; with on_storage_error='raise' the error would reach the caller",
                RuntimeWarning,
                stacklevel=2,
            )
