"""Global: initialise, instance, the default."""

from __future__ import annotations

import copy

import pytest

from asynclocks.recipes import Global


def test_initialise_returns_the_previous_one() -> None:
    client = Global(lambda: "default")
    assert client.initialise("first") is None
    assert client.initialise("second") == "first"
    assert client.instance() == "second"


def test_default_is_built_once_on_first_use() -> None:
    built: list[str] = []

    def build() -> str:
        built.append("default")
        return "default"

    client = Global(build)
    assert built == []
    assert [client.instance(), client.instance()] == ["default", "default"]
    assert built == ["default"]


def test_default_is_not_built_when_one_was_given() -> None:
    client: Global[str] = Global(lambda: pytest.fail("built"))
    client.initialise("given")
    assert client.instance() == "given"


def test_none_is_a_value() -> None:
    client: Global[None] = Global(lambda: pytest.fail("built"))
    client.initialise(None)
    assert client.instance() is None


def test_failed_default_is_built_again() -> None:
    answers = iter([0, 1])
    client = Global(lambda: 1 // next(answers))
    with pytest.raises(ZeroDivisionError):
        client.instance()
    assert client.instance() == 1


def test_default_that_asks_for_the_instance_is_told() -> None:
    client: Global[str] = Global(lambda: client.instance())  # noqa: PLW0108 - its name comes only with the call
    with pytest.raises(RuntimeError, match="its default asks"):
        client.instance()


def test_default_that_initialises_is_overruled_by_that() -> None:
    def build() -> str:
        client.initialise("explicit")
        return "default"

    client = Global(build)
    assert client.instance() == "explicit"


def test_repr_shows_the_type_only() -> None:
    client = Global(lambda: "secret")
    assert repr(client) == "<Global not built yet>"
    client.instance()
    assert repr(client) == "<Global str>"
    with pytest.raises(TypeError, match="cannot pickle or copy"):
        copy.copy(client)
