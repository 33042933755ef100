"""What `import asynclocks` leaves alone in Pyodide: it may stand in a Worker's snapshot, and run anywhere.

Natively see tests/native/test_imports.py.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import pytest

from tests.support import in_pyodide

pytestmark = pytest.mark.skipif(not in_pyodide, reason="JavaScript's objects are Pyodide's")


@pytest.fixture
def not_yet_imported() -> Iterator[None]:
    """Let `import asynclocks` run all of it once more; the other tests keep what they have."""

    def ours() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] == "asynclocks"]

    kept = {name: sys.modules.pop(name) for name in ours()}
    yield
    for name in ours():
        del sys.modules[name]
    sys.modules.update(kept)


def import_and_make() -> list[object]:
    """One of each, as a module's globals are."""
    new = import_module("asynclocks")
    return [
        new.Mutex(0),
        new.RwLock(0),
        new.Semaphore(1),
        new.OnceCell(),
        new.LazyLock(int),
        new.Condvar(),
        new.Event(),
        new.Notify(),
        new.Barrier(2),
        new.ConcurrentMap({1: 1}),
    ]


def javascript_objects_held() -> int:
    """How many of JavaScript's objects this Python refers to."""
    import pyodide_js

    gc.collect()
    return pyodide_js._module._hiwire_num_refs()


def test_importing_and_making_locks_holds_nothing_of_javascript_s(not_yet_imported: None) -> None:
    """Neither a promise nor a proxy: a snapshot of a Worker cannot have them."""
    import js

    javascript_objects_held()  # the first look makes what looking needs
    before = javascript_objects_held()
    made = import_and_make()
    assert javascript_objects_held() == before
    made.append(js.Object.new())
    assert javascript_objects_held() == before + 1  # it would be seen


def test_importing_and_making_locks_looks_at_no_global_of_javascript_s(
    not_yet_imported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What there is differs between browsers' pages, their workers, Node and Cloudflare Workers."""
    looked_at = []

    class Spy(ModuleType):
        def __getattr__(self, name: str) -> object:
            if not name.startswith("__"):  # the import system's own questions
                looked_at.append(name)
            raise AttributeError(name)

    monkeypatch.setitem(sys.modules, "js", Spy("js"))
    monkeypatch.setitem(sys.modules, "pyodide_js", Spy("pyodide_js"))
    import_and_make()
    assert looked_at == []
    with pytest.raises(ImportError):
        from js import setTimeout  # noqa: F401 - it would be seen
    assert looked_at == ["setTimeout"]


def test_importing_and_making_locks_adds_no_global_to_javascript_s(not_yet_imported: None) -> None:
    import js

    before = set(js.Object.getOwnPropertyNames(js.globalThis))
    import_and_make()
    assert set(js.Object.getOwnPropertyNames(js.globalThis)) == before
