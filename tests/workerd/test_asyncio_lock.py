"""What becomes of a module-level asyncio.Lock: each scenario goes wrong with it, in the same Worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.workerd import scene as scenes
from tests.workerd.scene import Scene


@pytest.mark.parametrize(
    ("scenario", "how"),
    [
        (scenes.plain, "hung"),
        (scenes.holder_is_cancelled, "hung"),
        (scenes.holder_outlives_its_response, "hung"),
        # It wakes in the holder's context: if that lasts, in vain; if not, never.
        (scenes.holder_lingers, "wrong context"),
        (scenes.holder_returns_at_once, "wrong context or hung"),
        (scenes.waiter_is_cancelled, "wrong context or hung"),
    ],
)
def test_waiter_fails_and_one_that_hung_locks_it_for_ever(bare: Any, scenario: Callable[..., Any], how: str) -> None:
    scene = Scene(bare)
    scenario(scene, "asyncio", keep=2)
    ending = scene.ending("B").how
    assert ending in how
    if ending == "hung":
        assert not scene.is_free("asyncio")


def test_ten_requests_of_which_three_die_lock_it_for_ever(bare: Any) -> None:
    scene = Scene(bare)
    dying = scenes.three_of_ten_die(scene, "asyncio", keep=1)
    assert not all(scene.ending(name).how == scenes.OK for name in {*scene.calls} - dying)
    assert not scene.is_free("asyncio")
