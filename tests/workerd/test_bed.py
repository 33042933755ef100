"""The test bed itself: what it serves is a Worker as the platform runs it."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import dedent

import pytest

from tests.workerd.bed import CANCELLED, Bed, serve

APP = """
    import asyncio
    import js
    from workers import DurableObject, Response, WorkerEntrypoint, wait_until

    begun, ended = [], []

    async def sleep(name, anchor):
        begun.append(name)
        try:
            await asyncio.sleep(0.2)
            ended.append(name)
        finally:
            anchor.resolve(None)

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            what = request.url.rpartition("/")[2]
            if what == "object":
                room = self.env.Room.get(self.env.Room.idFromName("a"))
                return Response(await (await room.fetch("http://room/", method="POST", body="hello")).text())
            if what in {"killed", "anchored"}:
                anchor = js.Promise.withResolvers()
                if what == "anchored":
                    wait_until(anchor.promise)
                await sleep(what, anchor)
            if what == "broken":
                raise LookupError("in vain")
            return Response(f"begun {len(begun)}, ended {ended}" if what == "state" else await request.text())

    class Room(DurableObject):
        async def fetch(self, request):
            return Response("the room says " + await request.text())
"""


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with serve("app", files={"app.py": dedent(APP)}, durable_objects=["Room"]) as running:
        yield running


def test_request_reaches_the_app_with_its_body(bed: Bed) -> None:
    assert (bed.request("/", b"hello").status, bed.request("/", b"hello").text) == (200, "hello")


def test_durable_object_answers_through_its_binding(bed: Bed) -> None:
    assert bed.request("/object").text == "the room says hello"


def test_an_exception_is_a_500_and_in_the_log(bed: Bed) -> None:
    assert bed.request("/broken").status == 500
    assert "in vain" in bed.log


def test_cancelled_request_is_killed_unless_anchored(bed: Bed) -> None:
    """Its task never runs again, not even a `finally`; `waitUntil` lets it go on."""
    calls = [bed.start("/killed"), bed.start("/anchored")]
    bed.wait_until(lambda: "begun 2" in bed.request("/state").text, "both sleep")
    for call in calls:
        call.cancel()
    assert [call.answer().status for call in calls] == [CANCELLED] * 2
    bed.wait_until(lambda: "ended ['anchored']" in bed.request("/state").text, "the anchored one ends, only that")
