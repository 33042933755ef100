"""Every scenario that goes wrong with asyncio.Lock goes well with ours, whether requests can be anchored or not."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest

from tests.workerd import scene as scenes
from tests.workerd.bed import Bed
from tests.workerd.scene import FLIGHTS, LOCKS, OK, SCENARIOS, Scene

FIFTY = pytest.param(50, marks=pytest.mark.slow)
HUNDRED = pytest.param(100, marks=pytest.mark.slow)


@pytest.mark.parametrize("times", [1, FIFTY])
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("what", [*LOCKS, *FLIGHTS])
def test_waiter_gets_it_in_its_own_context(scene: Scene, what: str, scenario: Callable[..., Any], times: int) -> None:
    for _ in range(times):
        scene.clear()
        scenario(scene, what)
        assert scene.ending("B").how == OK
        assert scene.is_free(what)
        if what in LOCKS:
            assert [*scene.took()][-2:] == ["B", "newcomer"]


@pytest.mark.parametrize("times", [3, HUNDRED])
@pytest.mark.parametrize("what", LOCKS)
def test_ten_requests_of_which_three_die_are_served_in_order(scene: Scene, what: str, times: int) -> None:
    for seed in range(times):
        scene.clear()
        dying = scenes.three_of_ten_die(scene, what, seed=seed)
        living = [name for name in scene.calls if name not in dying]
        assert scene.endings("".join(living)) == [OK] * 7
        assert [name for name in scene.took() if name in living] == living
        assert scene.is_free(what)


@pytest.mark.parametrize("times", [3, HUNDRED])
@pytest.mark.parametrize("what", FLIGHTS)
def test_ten_requests_of_which_three_die_are_told_one_value(scene: Scene, what: str, times: int) -> None:
    """The living ones: what the last leader made."""
    for seed in range(times):
        scene.clear()
        dying = scenes.three_of_ten_die(scene, what, seed=seed)
        endings = [scene.ending(name) for name in scene.calls if name not in dying]
        assert [ending.how for ending in endings] == [OK] * 7
        assert {ending.answer["value"] for ending in endings if ending.answer} == {scene.took()[-1]}


@pytest.mark.parametrize("times", [3, FIFTY])
@pytest.mark.parametrize("what", [*LOCKS, *FLIGHTS])
def test_dead_holder_is_recovered_within_half_a_second(bare: Bed, what: str, times: int) -> None:
    """Nothing anchors it here; the next guard says so, and the one after that does not.

    Half a second is for the median: on a busy machine every timer may be late once.
    """
    scene = Scene(bare)
    took = []
    for _ in range(times):
        scene.clear()
        holder = scene.hold("A", what=what, hold=5)
        scene.wait("B", what=what)
        holder.cancel()
        died = time.monotonic()
        ending = scene.ending("B")
        took.append(time.monotonic() - died)
        assert ending.how == OK
        if what in LOCKS:
            assert ending.answer["recovered"] is (what != "semaphore")
            scene.start("C", what=what)
            assert scene.ending("C").answer["recovered"] is False
        else:
            assert ending.answer["value"] == "B"
    assert median(took) < 0.5


@pytest.mark.parametrize("times", [3, FIFTY])
@pytest.mark.parametrize("what", [*LOCKS, *FLIGHTS])
def test_waiters_behind_a_dead_one_go_on_within_half_a_second(scene: Scene, what: str, times: int) -> None:
    """By the median, as above."""
    took = []
    for _ in range(times):
        scene.clear()
        scene.hold("A", what=what, gate="closed")
        dead = scene.wait("X", what=what)
        scene.wait("B", what=what)
        dead.cancel()
        released = time.monotonic()
        scene.open_gate()
        assert scene.ending("B").how == OK
        took.append(time.monotonic() - released)
        assert "X" not in scene.took()
    assert median(took) < 0.5


@pytest.mark.parametrize("what", LOCKS)
def test_anchored_holder_ends_its_work_though_it_is_cancelled(anchoring: Bed, what: str) -> None:
    scene = Scene(anchoring)
    scenes.holder_is_cancelled(scene, what)
    assert not scene.ending("B").answer["recovered"]
    assert scene.state()["log"][:3] == ["X took", "X gave", "B took"]


@pytest.mark.parametrize("what", LOCKS)
def test_long_computation_costs_no_waiter_its_place(scene: Scene, what: str) -> None:
    """It stops everybody's ticks alike."""
    scene.hold("A", what=what, hold=0.2, gate="closed")
    for name in "BCD":
        scene.wait(name, what=what)
    scene.open_gate()
    for _ in range(3):
        scene.bed.request("/compute?rounds=5000000")
    assert scene.endings("ABCD") == [OK] * 4
    assert scene.took() == [*"ABCD"]


def test_plain_call_waits_in_its_own_context_and_keeps_its_place(scene: Scene) -> None:
    """`blocking_lock` by stack switching."""
    scene.hold("A", what="mutex", gate="closed")
    scene.wait("B", "/blocking", what="mutex")
    scene.wait("C", what="mutex")
    scene.open_gate()
    assert scene.endings("ABC") == [OK] * 3
    assert scene.took() == [*"ABC"]


def test_what_a_dead_plain_call_held_is_recovered(bare: Bed) -> None:
    scene = Scene(bare)
    holder = scene.hold("A", "/hold_blocking", hold=5)
    scene.wait("B", what="mutex")
    holder.cancel()
    ending = scene.ending("B")
    assert (ending.how, ending.answer["recovered"]) == (OK, True)


@pytest.mark.parametrize("what", [*LOCKS, *FLIGHTS])
def test_tasks_of_one_request_take_turns(scene: Scene, what: str) -> None:
    scene.start("A", "/together", what=what, tasks=5, rounds=5)
    assert scene.ending("A").how == OK


@pytest.mark.parametrize("what", [*LOCKS, *FLIGHTS])
def test_requests_to_one_durable_object_take_turns(anchoring: Bed, what: str) -> None:
    scene = Scene(anchoring)
    scene.hold("A", "/room/take", what=what, gate="closed")
    for name in "BC":
        scene.wait(name, "/room/take", what=what)
    scene.open_gate()
    assert scene.endings("ABC") == [OK] * 3
    assert scene.took() == ([*"ABC"] if what in LOCKS else ["A"])


@pytest.mark.parametrize("what", LOCKS)
def test_durable_object_and_requests_take_turns(anchoring: Bed, what: str) -> None:
    scene = Scene(anchoring)
    scene.hold("A", what=what, gate="closed")
    scene.wait("B", "/room/take", what=what)
    scene.wait("C", what=what)
    scene.open_gate()
    assert scene.endings("ABC") == [OK] * 3
    assert scene.took() == [*"ABC"]


@pytest.mark.parametrize("alone", [0, 1, 2])
def test_request_is_anchored_once(anchoring: Bed, alone: int) -> None:
    """By tasks that were forked after its first use, and by all that were forked before."""
    assert anchoring.request(f"/leases?alone={alone}").json() == {"leases": 1}


def test_wait_until_is_found_without_the_sdk(anchoring: Bed) -> None:
    assert anchoring.request("/without_sdk").json() == {"found": True}


def test_nothing_is_left_when_nobody_waits(scene: Scene) -> None:
    for name in "ABC":
        scene.start(name, what="mutex", hold=0.05)
    assert scene.endings("ABC") == [OK] * 3
    scene.bed.wait_until(lambda: scene.state()["left"] == {"requests": 0, "callbacks": 0}, "all requests close")
