"""ConcurrentMap as a dict: reads, writes, snapshots, and what callbacks may do. No loop is needed."""

from __future__ import annotations

import copy
import json
import pickle
import weakref
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from asynclocks import ConcurrentMap, ConcurrentMapStatistics, KeyLockedError, WouldBlock
from tests.support import collect

Map = ConcurrentMap[str, Any]


class Watched:
    """A value whose finalizer reports."""

    def __init__(self, report: Callable[[], object]) -> None:
        self.report = report

    def __del__(self) -> None:
        self.report()


class Key:
    """A key with a hash and an equality of its own."""

    def __init__(self, name: str, during: Callable[[], object] = lambda: None) -> None:
        self.name = name
        self.during = during

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        self.during()
        return isinstance(other, Key) and other.name == self.name


def is_inside(m: Map) -> bool:
    return m._is_inside()


def assert_idle(m: ConcurrentMap[Any, Any]) -> None:
    """Only items are left."""
    assert m._held == {}
    assert m._deferred == []
    assert m.statistics() == ConcurrentMapStatistics(size=len(m), locked_keys=0, waiting=0)


# --- a mapping


def test_a_map_is_a_mutable_mapping() -> None:
    assert isinstance(ConcurrentMap(), MutableMapping)


def test_a_map_is_made_of_what_a_dict_is_made_of() -> None:
    """A mapping, pairs, another map, or nothing."""
    for items in ({"a": 1}, [("a", 1)], iter([("a", 1)]), ConcurrentMap({"a": 1})):
        assert ConcurrentMap(items).snapshot() == {"a": 1}
    assert ConcurrentMap[str, int]().snapshot() == {}


def test_reading_is_as_of_a_dict() -> None:
    m: Map = ConcurrentMap({"a": 1, "b": None})
    assert (m["a"], m["b"], m.get("a"), m.get("c"), m.get("c", 3)) == (1, None, 1, None, 3)
    assert "b" in m
    assert "c" not in m
    with pytest.raises(KeyError, match="'c'"):
        m["c"]


def test_an_unhashable_key_is_a_type_error() -> None:
    m: ConcurrentMap[Any, int] = ConcurrentMap()
    with pytest.raises(TypeError):
        m[[]] = 1
    with pytest.raises(TypeError):
        m.try_entry([])
    assert_idle(m)


def test_writing_is_as_of_a_dict() -> None:
    m: Map = ConcurrentMap()
    m["a"] = 1
    m["a"] = 2
    m["b"] = 3
    del m["a"]
    assert m.snapshot() == {"b": 3}
    with pytest.raises(KeyError, match="'a'"):
        del m["a"]


def test_insert_returns_the_old_value() -> None:
    m: Map = ConcurrentMap()
    assert m.insert("a", 1) is None
    assert m.insert("a", 2) == 1


@pytest.mark.parametrize("name", ["remove", "pop"])
def test_remove_returns_the_value_or_the_default(name: str) -> None:
    m: Map = ConcurrentMap({"a": 1})
    remove = getattr(m, name)
    assert remove("a") == 1
    assert remove("a", None) is None
    with pytest.raises(KeyError, match="'a'"):
        remove("a")


def test_setdefault_inserts_only_where_there_is_nothing() -> None:
    m: Map = ConcurrentMap()
    assert m.setdefault("a", 1) == 1
    assert m.setdefault("a", 2) == 1
    assert m.setdefault("b") is None
    assert m.snapshot() == {"a": 1, "b": None}


def test_popitem_takes_the_newest() -> None:
    m: Map = ConcurrentMap({"a": 1, "b": 2})
    assert m.popitem() == ("b", 2)
    assert m.popitem() == ("a", 1)
    with pytest.raises(KeyError, match="empty"):
        m.popitem()


def test_update_takes_what_dict_takes() -> None:
    m: Map = ConcurrentMap({"a": 1})
    m.update({"b": 2})
    m.update([("c", 3)], d=4)
    m.update(ConcurrentMap({"e": 5}))
    m.update()
    m |= {"f": 6}
    m |= m
    m.update(m)
    assert m.snapshot() == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6}


def test_clear_removes_everything() -> None:
    m: Map = ConcurrentMap({"a": 1})
    m.clear()
    assert m.snapshot() == {}


def test_order_is_that_of_insertion() -> None:
    m: Map = ConcurrentMap({"b": 1, "a": 2})
    m["c"] = 3
    m["b"] = 4
    del m["a"]
    m["a"] = 5
    assert list(m) == ["b", "c", "a"]
    assert list(reversed(m)) == ["a", "c", "b"]


def test_views_are_of_the_moment_of_the_call() -> None:
    """What is changed afterwards is not in them, so the map may be changed while it is iterated."""
    m: Map = ConcurrentMap({"a": 1, "b": 2})
    keys, values, items = m.keys(), m.values(), m.items()
    for key in m:
        del m[key]
    m["c"] = 3
    assert (list(keys), list(values), list(items)) == (["a", "b"], [1, 2], [("a", 1), ("b", 2)])
    assert keys & {"a", "c"} == {"a"}


def test_equality_is_of_contents() -> None:
    m: Map = ConcurrentMap({"a": 1})
    assert m == {"a": 1}
    assert {"a": 1} == m  # noqa: SIM300 - both ways
    assert m == ConcurrentMap({"a": 1})
    assert m != {"a": 2}
    assert m != 1
    with pytest.raises(TypeError):
        hash(m)


def test_repr_shows_the_contents_and_survives_itself() -> None:
    m: Map = ConcurrentMap({"a": 1})
    assert repr(m) == "ConcurrentMap({'a': 1})"
    m["self"] = m
    assert repr(m) == "ConcurrentMap({'a': 1, 'self': ...})"


def test_a_union_is_of_the_kind_of_its_left_side() -> None:
    m: Map = ConcurrentMap({"a": 1})
    left, right = m | {"b": 2}, {"b": 2} | m
    assert type(left) is ConcurrentMap
    assert left == {"a": 1, "b": 2}
    assert type(right) is dict
    assert right == {"b": 2, "a": 1}
    assert list(right) == ["b", "a"]
    with pytest.raises(TypeError):
        m | [("b", 2)]  # type: ignore[operator]
    with pytest.raises(TypeError):
        [("b", 2)] | m  # type: ignore[operator]


def test_a_copy_is_independent() -> None:
    m: Map = ConcurrentMap({"a": 1})
    for other in (copy.copy(m), m.copy()):
        assert type(other) is ConcurrentMap
        other["a"] = 2
        assert m["a"] == 1


@pytest.mark.parametrize("copier", [copy.deepcopy, pickle.dumps])
def test_pickling_and_deepcopy_are_refused_with_the_way_out(copier: Callable[[Any], Any]) -> None:
    m: Map = ConcurrentMap({"a": 1})
    with pytest.raises(TypeError, match=r"snapshot\(\)"):
        copier(m)
    assert copier(m.snapshot())


def test_what_takes_a_dict_takes_a_map() -> None:
    m: Map = ConcurrentMap({"a": 1, "b": [2]})
    assert json.loads(json.dumps(m)) == {"a": 1, "b": [2]}
    assert json.loads(json.dumps(m, indent=1)) == {"a": 1, "b": [2]}
    assert dict(m) == {**m} == {"a": 1, "b": [2]}
    assert sorted(m) == ["a", "b"]
    assert bool(m)
    assert not ConcurrentMap()
    assert type(ConcurrentMap.fromkeys("ab", 0)) is ConcurrentMap


def test_matching_sees_a_mapping() -> None:
    match ConcurrentMap({"a": 1, "b": 2}):
        case {"a": value, **rest}:
            assert value == 1
            assert rest == {"b": 2}
        case _:
            pytest.fail("no mapping")


# --- callbacks


def test_remove_if_asks_the_predicate() -> None:
    m: Map = ConcurrentMap({"a": 1})
    assert not m.remove_if("a", lambda value: value > 1)
    assert m.remove_if("a", lambda value: value == 1)
    assert not m.remove_if("a", lambda _: True)
    assert_idle(m)


def test_alter_replaces_and_returns_the_new_value() -> None:
    m: Map = ConcurrentMap({"a": 1})
    assert m.alter("a", lambda value: value + 1) == 2
    assert m["a"] == 2
    with pytest.raises(KeyError, match="'b'"):
        m.alter("b", lambda value: value)


def test_alter_all_and_retain_look_at_every_item() -> None:
    m: Map = ConcurrentMap({"a": 1, "b": 2, "c": 3})
    m.alter_all(lambda key, value: f"{key}{value}")
    assert m == {"a": "a1", "b": "b2", "c": "c3"}
    m.retain(lambda key, value: key != "b" and value != "c3")
    assert m == {"a": "a1"}


def test_view_reads_what_is_there() -> None:
    m: Map = ConcurrentMap({"a": [1, 2]})
    assert m.view("a", len) == 2
    assert m.view("b", len) is None


def _raise(*_: object) -> Any:
    raise ValueError("callback")


CALLBACKS: dict[str, Callable[[Map, Callable[..., Any]], object]] = {
    "remove_if": lambda m, f: m.remove_if("a", f),
    "alter": lambda m, f: m.alter("a", f),
    "alter_all": lambda m, f: m.alter_all(f),
    "retain": lambda m, f: m.retain(f),
    "view": lambda m, f: m.view("a", f),
}
every_callback = pytest.mark.parametrize("call", CALLBACKS.values(), ids=CALLBACKS.keys())


@every_callback
def test_a_raising_callback_changes_nothing(call: Callable[[Map, Callable[..., Any]], object]) -> None:
    m: Map = ConcurrentMap({"a": 1, "b": 2})
    with pytest.raises(ValueError, match="callback"):
        call(m, _raise)
    assert m == {"a": 1, "b": 2}
    assert_idle(m)


def test_a_callback_that_raises_late_changes_nothing_either() -> None:
    m: Map = ConcurrentMap({"a": 1, "b": 2})

    def change(key: str, value: int) -> int:
        return value + 1 if key == "a" else _raise()

    for call in (m.alter_all, m.retain):
        with pytest.raises(ValueError, match="callback"):
            call(change)
    assert m == {"a": 1, "b": 2}


@every_callback
def test_callbacks_run_outside_the_lock_and_may_use_the_map(call: Callable[[Map, Callable[..., Any]], object]) -> None:
    m: Map = ConcurrentMap({"a": 1})

    def use(*_: object) -> Any:
        assert not is_inside(m)
        m["b"] = 2
        return m["a"]

    call(m, use)
    assert "b" in m


def test_what_changes_under_a_callback_is_looked_at_again() -> None:
    """The callback runs once more, for what changed only."""
    m: Map = ConcurrentMap({"a": 1, "b": 2})
    seen: list[tuple[str, int]] = []

    def change(key: str, value: int) -> int:
        if not seen:
            m["a"] = 10
        seen.append((key, value))
        return value + 1

    m.alter_all(change)
    assert seen == [("a", 1), ("b", 2), ("a", 10)]
    assert m == {"a": 11, "b": 3}


def test_alter_and_remove_if_look_again_at_a_changed_value() -> None:
    m: Map = ConcurrentMap({"a": 1})
    seen: list[int] = []

    def look(value: int) -> int:
        seen.append(value)
        if len(seen) == 1:
            m["a"] = 10
        return value + 1

    assert m.alter("a", look) == 11
    seen.clear()
    m["a"] = 5
    assert m.remove_if("a", lambda value: look(value) > 5)
    assert seen == [5, 10]


@pytest.mark.parametrize("what", ["remove_if", "alter", "alter_all", "retain"])
def test_a_callback_that_always_changes_what_it_is_asked_about_is_told_so(what: str) -> None:
    """As one that counts its calls in the map itself: it would be asked again for ever."""
    m: Map = ConcurrentMap({"a": 0})
    calls = 0

    def count(*_: object) -> Any:
        nonlocal calls
        calls += 1
        m["a"] = f"{calls} calls"
        return True

    with pytest.raises(RuntimeError, match=f"{what}.* not write it itself"):
        CALLBACKS[what](m, count)
    assert m == {"a": f"{calls} calls"}
    assert_idle(m)


def test_alter_of_what_is_removed_meanwhile_is_a_key_error() -> None:
    m: Map = ConcurrentMap({"a": 1})
    with pytest.raises(KeyError, match="'a'"):
        m.alter("a", lambda _: m.remove("a"))
    assert m == {}


def test_retain_drops_what_was_removed_meanwhile_without_a_word() -> None:
    m: Map = ConcurrentMap({"a": 1, "b": 2})

    def keep(key: str, _: int) -> bool:
        m.remove("a", None)
        return key == "b"

    m.retain(keep)
    assert m == {"b": 2}


# --- finalizers and keys of the user's


REPLACERS: dict[str, Callable[[Map], object]] = {
    "setitem": lambda m: m.__setitem__("a", 1),
    "delitem": lambda m: m.__delitem__("a"),
    "insert": lambda m: m.insert("a", 1) and None,
    "remove": lambda m: m.remove("a") and None,
    "popitem": lambda m: m.popitem() and None,
    "update": lambda m: m.update(a=1),
    "clear": lambda m: m.clear(),
    "alter": lambda m: m.alter("a", lambda _: 1),
    "alter_all": lambda m: m.alter_all(lambda _key, _value: 1),
    "retain": lambda m: m.retain(lambda _key, _value: False),
    "remove_if": lambda m: m.remove_if("a", lambda _: True),
}


@pytest.mark.parametrize("replace", REPLACERS.values(), ids=REPLACERS.keys())
def test_what_a_write_drops_it_drops_outside_the_lock(replace: Callable[[Map], object]) -> None:
    """So its finalizer may do what it likes."""
    reports: list[bool] = []
    m: Map = ConcurrentMap()

    def report() -> None:
        reports.append(is_inside(m))
        m["finalized"] = True

    m["a"] = Watched(report)
    replace(m)
    collect()
    assert reports == [False]
    assert m["finalized"]


def test_an_entry_drops_what_it_replaces_outside_the_lock() -> None:
    reports: list[bool] = []
    m: Map = ConcurrentMap()
    m["a"] = Watched(lambda: reports.append(is_inside(m)))
    with m.try_entry("a") as entry:
        entry.value = 1
        assert reports == []
    collect()
    assert reports == [False]


def test_keys_may_have_an_equality_in_python_that_uses_the_map() -> None:
    m: ConcurrentMap[Any, int] = ConcurrentMap()
    m[Key("a")] = 1
    busy = Key("b", lambda: m.get("other"))
    m[busy] = 2
    busy.during = lambda: m.__setitem__("other", 3)
    m[Key("b")] = 4
    assert (m[Key("a")], m[Key("b")], m["other"]) == (1, 4, 3)
    with m.try_entry(Key("b")) as entry, pytest.raises(KeyLockedError):
        m[Key("b")] = entry.value
    assert_idle(m)


def test_a_key_whose_equality_takes_an_entry_in_the_middle_of_a_write_is_refused() -> None:
    """Waiting for nobody there."""
    m: ConcurrentMap[Any, int] = ConcurrentMap()
    refused: list[BaseException] = []

    def take() -> None:
        try:
            m.try_entry("other").release()
        except KeyLockedError as error:
            refused.append(error)

    m[Key("a", take)] = 1
    m[Key("b")] = 2
    assert refused
    assert_idle(m)


def test_a_key_whose_equality_raises_leaves_the_map_usable() -> None:
    m: ConcurrentMap[Any, int] = ConcurrentMap()
    key = Key("a")
    m[key] = 1
    key.during = _raise
    with pytest.raises(ValueError, match="callback"):
        m[Key("b")] = 2
    m["c"] = 3
    assert m[key] == 1
    assert_idle(m)


def test_a_guard_given_back_in_the_middle_of_a_write_is_given_back() -> None:
    """As by a finalizer that the collector runs there."""
    m: ConcurrentMap[Any, int] = ConcurrentMap()
    entry, loose = m.try_entry("x"), m.try_entry("y")
    done = [entry, loose]

    def give_back() -> None:
        if done:
            done.pop().release()

    m[Key("a", give_back)] = 1
    m[Key("b")] = 2
    m[Key("c")] = 3
    assert entry.released
    assert loose.released
    del entry, loose
    m["x"] = m["y"] = 1
    assert_idle(m)


# --- many-key writes and held keys


def test_update_minds_only_held_keys_it_would_change() -> None:
    value = object()
    m: Map = ConcurrentMap({"a": value, "b": 1})
    with m.try_entry("a"):
        m.update(a=value, b=2)
        with pytest.raises(KeyLockedError, match="'a'"):
            m.update(b=3, a=1)
        assert m == {"a": value, "b": 2}


def test_clear_minds_only_held_keys_that_are_present() -> None:
    m: Map = ConcurrentMap({"a": 1, "b": 2})
    with m.try_entry("absent"), m.try_entry("a"):
        with pytest.raises(KeyLockedError, match="'a'"):
            m.clear()
        assert m == {"a": 1, "b": 2}
    with m.try_entry("absent"):
        m.clear()
        assert m == {}


def test_retain_and_alter_all_mind_only_held_keys_they_would_change() -> None:
    m: Map = ConcurrentMap({"a": 1, "b": 2, "c": 3})
    with m.try_entry("a"):
        with pytest.raises(KeyLockedError, match="'a'"):
            m.retain(lambda _, value: value > 2)
        with pytest.raises(KeyLockedError, match="'a'"):
            m.alter_all(lambda _, value: value + 1)
        assert m == {"a": 1, "b": 2, "c": 3}
        m.alter_all(lambda key, value: value if key == "a" else -value)
        m.retain(lambda key, _: key != "b")
        assert m == {"a": 1, "c": -3}


def test_popitem_skips_held_keys() -> None:
    m: Map = ConcurrentMap({"a": 1, "b": 2})
    with m.try_entry("b"):
        assert m.popitem() == ("a", 1)
        with pytest.raises(KeyLockedError, match="'b'"):
            m.popitem()
    assert m == {"b": 2}


# --- held keys


REFUSED: dict[str, Callable[[Map, str], object]] = {
    "setitem": lambda m, key: m.__setitem__(key, 2),
    "delitem": lambda m, key: m.__delitem__(key),
    "insert": lambda m, key: m.insert(key, 2),
    "pop": lambda m, key: m.pop(key, None),
    "remove": lambda m, key: m.remove(key, None),
    "remove_if": lambda m, key: m.remove_if(key, lambda _: True),
    "alter": lambda m, key: m.alter(key, lambda value: value),
    "try_entry": lambda m, key: m.try_entry(key).release(),
}
every_refused = pytest.mark.parametrize("write", REFUSED.values(), ids=REFUSED.keys())


@every_refused
@pytest.mark.parametrize("key", ["present", "absent"])
def test_a_held_key_refuses_to_be_written(write: Callable[[Map, str], object], key: str) -> None:
    """And says which key, and what to use instead."""
    m: Map = ConcurrentMap({"present": 1})
    with m.try_entry(key):
        with pytest.raises(KeyLockedError, match=rf"'{key}'.*entry\(key\)"):
            write(m, key)
        with pytest.raises(WouldBlock):
            m.try_ref(key)
        assert m.snapshot() == {"present": 1}
    write(m, "present")


@every_refused
def test_a_ref_refuses_writers_and_admits_readers(write: Callable[[Map, str], object]) -> None:
    m: Map = ConcurrentMap({"a": 1})
    with m.try_ref("a") as ref, m.try_ref("a") as other:
        assert (ref.key, ref.value, other.value) == ("a", 1, 1)
        with pytest.raises(KeyLockedError, match="'a'"):
            write(m, "a")
        assert m["a"] == 1
    assert_idle(m)


def test_setdefault_of_a_held_key_is_refused_only_when_absent() -> None:
    m: Map = ConcurrentMap({"a": 1})
    with m.try_entry("a"), m.try_entry("b"):
        assert m.setdefault("a", 2) == 1
        with pytest.raises(KeyLockedError, match="'b'"):
            m.setdefault("b", 2)


def test_a_held_key_can_be_read_and_others_written() -> None:
    m: Map = ConcurrentMap({"a": 1})
    with m.try_entry("a") as entry:
        entry.value = 2
        assert (m["a"], m.get("a"), m.snapshot(), len(m)) == (1, 1, {"a": 1}, 1)
        m["b"] = 3
    assert m == {"a": 2, "b": 3}


def test_statistics_count_items_held_keys_and_waiters() -> None:
    m: Map = ConcurrentMap({"a": 1, "b": 2})
    with m.try_entry("a"), m.try_ref("b"), m.try_entry("c"):
        assert m.statistics() == ConcurrentMapStatistics(size=2, locked_keys=3, waiting=0)
    assert_idle(m)


# --- entries and refs without a loop


def test_an_entry_commits_at_the_end_of_its_block() -> None:
    m: Map = ConcurrentMap({"a": 1})
    with m.try_entry("a") as entry:
        entry.value += 1
        assert entry.value == 2
        assert m["a"] == 1
    assert m["a"] == 2
    assert_idle(m)


def test_an_entry_whose_block_raises_changes_nothing() -> None:
    m: Map = ConcurrentMap({"a": 1})
    with pytest.raises(ValueError, match="callback"), m.try_entry("a") as entry:
        entry.value = 2
        _raise()
    assert m["a"] == 1
    assert_idle(m)


def test_releasing_an_entry_commits_once() -> None:
    m: Map = ConcurrentMap({"a": 1})
    entry = m.try_entry("a")
    entry.value = 2
    entry.release()
    assert m["a"] == 2
    m["a"] = 3
    with pytest.raises(RuntimeError, match="let go"):
        entry.release()
    assert m["a"] == 3


def test_an_early_release_in_a_block_commits_and_the_exit_does_nothing() -> None:
    m: Map = ConcurrentMap({"a": 1})
    with m.try_entry("a") as entry:
        entry.value = 2
        entry.release()
        m["a"] = 3
        with m.try_entry("a") as other:
            entry.__exit__(None, None, None)
            assert not other.released
    assert m["a"] == 3


def test_a_dropped_entry_warns_releases_and_changes_nothing() -> None:
    m: Map = ConcurrentMap({"a": 1})
    entry = m.try_entry("a")
    entry.value = 2
    with pytest.warns(ResourceWarning, match="Entry of key 'a' of ConcurrentMap .* dropped"):  # noqa: PT031 - what warns takes two steps
        del entry
        collect()
    assert m["a"] == 1
    assert_idle(m)


def test_a_dropped_ref_warns_and_releases() -> None:
    m: Map = ConcurrentMap({"a": 1})
    ref = m.try_ref("a")
    with pytest.warns(ResourceWarning, match="Ref of key 'a' of ConcurrentMap .* dropped"):  # noqa: PT031 - what warns takes two steps
        del ref
        collect()
    m["a"] = 2
    assert_idle(m)


def test_a_released_entry_and_ref_refuse_everything() -> None:
    m: Map = ConcurrentMap({"a": 1})
    entry = m.try_entry("a")
    entry.release()
    ref = m.try_ref("a")
    ref.release()
    assert entry.released
    assert ref.released
    assert entry.key == ref.key == "a"
    uses: list[Callable[[], object]] = [
        lambda: entry.value,
        lambda: setattr(entry, "value", 2),
        lambda: entry.is_vacant,
        entry.get,
        lambda: entry.or_insert(1),
        lambda: entry.and_modify(lambda value: value),
        lambda: entry.insert(1),
        entry.remove,
        entry.release,
        entry.__enter__,
        lambda: ref.value,
        ref.release,
    ]
    for use in uses:
        with pytest.raises(RuntimeError, match="let go"):
            use()
    assert m == {"a": 1}


def test_a_vacant_entry_has_no_value_until_one_is_inserted() -> None:
    m: Map = ConcurrentMap()
    with m.try_entry("a") as entry:
        assert entry.is_vacant
        assert entry.get() is None
        assert entry.get(7) == 7
        with pytest.raises(KeyError, match="'a'"):
            entry.value  # noqa: B018 - reading is the use
        assert entry.and_modify(_raise) is entry
        assert entry.or_insert(1) == 1
        assert entry.or_insert(2) == 1
        assert not entry.is_vacant
        assert entry.get() == entry.value == 1
        assert "a" not in m
    assert m == {"a": 1}


def test_an_entry_inserts_modifies_and_removes() -> None:
    m: Map = ConcurrentMap({"a": 1})
    with m.try_entry("a") as entry:
        assert entry.insert(2) == 1
        assert entry.and_modify(lambda value: value * 10).value == 20
        assert entry.remove() == 20
        assert entry.is_vacant
        assert entry.remove() is None
        with pytest.raises(KeyError, match="'a'"):
            entry.value  # noqa: B018 - reading is the use
    assert m == {}


def test_an_entry_stores_none_like_any_value() -> None:
    m: Map = ConcurrentMap()
    with m.try_entry("a") as entry:
        entry.value = None
        assert not entry.is_vacant
    assert m == {"a": None}


def test_a_ref_of_an_absent_key_is_a_key_error() -> None:
    m: Map = ConcurrentMap()
    with pytest.raises(KeyError, match="'a'"):
        m.try_ref("a")
    assert_idle(m)


def test_guards_refuse_to_be_copied_and_say_what_they_hold() -> None:
    m: Map = ConcurrentMap({"a": 1})
    with m.try_entry("a") as entry:
        assert repr(entry).startswith("<Entry of key 'a' of ConcurrentMap at ")
        with pytest.raises(TypeError, match="cannot pickle or copy"):
            copy.copy(entry)
        with pytest.raises(KeyLockedError):
            m.try_ref("a")
        assert "held" in repr(m._held["a"])


def test_an_idle_map_refers_to_nobody_it_does_not_hold() -> None:
    class Thing:
        pass

    m: ConcurrentMap[Any, Any] = ConcurrentMap()
    key, value = Thing(), Thing()
    things = [weakref.ref(key), weakref.ref(value)]
    with m.try_entry(key) as entry:
        entry.value = value
    with m.try_ref(key):
        pass
    del m[key], key, value, entry
    collect()
    assert [thing() for thing in things] == [None, None]
    assert_idle(m)
