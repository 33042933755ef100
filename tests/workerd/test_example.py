"""What examples/worker answers when many ask at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from examples.worker.api import PRICES, Api, serve_api
from tests.pyodide.bed import REPO
from tests.workerd.bed import CANCELLED, Bed
from tests.workerd.project import serve_project


@pytest.fixture
def api() -> Iterator[Api]:
    with serve_api() as running:
        yield running


@pytest.fixture
def bed(api: Api) -> Iterator[Bed]:
    with serve_project(REPO / "examples" / "worker", API=api.url) as running:
        yield running


def test_many_requests_share_one_token_and_one_call_a_price(bed: Bed, api: Api) -> None:
    """And no more than three prices are asked for at a time."""
    calls = {item: [bed.start(f"/prices/{item}") for _ in range(5)] for item in PRICES}
    for item, price in PRICES.items():
        for call in calls[item]:
            assert call.answer().json() == {"item": item, "price": price}
    assert api.asked == {"/token": 1, **{f"/prices/{item}": 1 for item in PRICES}}
    assert api.most == 3
    assert bed.request("/statistics").json() == {"prices": 4, "calls": 0, "waiting": 0}


def test_the_others_get_their_prices_though_the_request_that_works_for_them_is_cancelled(bed: Bed, api: Api) -> None:
    """The one that fetches the token, and the price that others want."""
    item = next(iter(PRICES))
    first = bed.start(f"/prices/{item}")
    bed.wait_until(lambda: api.asked["/token"], "the API is asked for a token")
    calls = {item: bed.start(f"/prices/{item}") for item in PRICES}
    first.cancel()
    assert first.answer().status == CANCELLED
    for item, call in calls.items():
        assert call.answer().json() == {"item": item, "price": PRICES[item]}


def test_a_revoked_token_is_fetched_anew_once(bed: Bed, api: Api) -> None:
    """However many are told that it is no longer good."""
    apples, *others = PRICES
    assert bed.request(f"/prices/{apples}").status == 200
    api.revoke()
    for call in [bed.start(f"/prices/{item}") for item in others]:
        assert call.answer().status == 200
    assert api.asked["/token"] == 2


def test_an_item_that_is_none_is_not_remembered(bed: Bed, api: Api) -> None:
    """All who ask meanwhile are told so."""
    calls = [bed.start("/prices/stones") for _ in range(3)]
    assert [call.answer().status for call in calls] == [404] * 3
    assert bed.request("/statistics").json()["prices"] == 0


def test_who_comes_too_fast_is_told_when_to_come_again(bed: Bed) -> None:
    """After fifty at once; ten more in each second."""
    item = next(iter(PRICES))
    answers = [call.answer() for call in [bed.start(f"/prices/{item}") for _ in range(150)]]
    assert {answer.status for answer in answers} == {200, 429}
    assert sum(answer.status == 200 for answer in answers) >= 50
