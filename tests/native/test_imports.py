"""What `import asynclocks` does not do, each in an interpreter of its own."""

from __future__ import annotations

import pickle
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import pytest

from asynclocks import compiled


def run(code: str) -> str:
    """What a fresh interpreter prints for this code; warnings are errors there."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


LOADED = "print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def test_importing_loads_no_loop_but_asyncio() -> None:
    """Neither trio nor anyio nor uvloop, nor anything of Pyodide's."""
    loaded = run(f"import sys, asynclocks, asynclocks.backends; {LOADED}").split()
    assert not {"trio", "anyio", "uvloop", "js", "pyodide", "pyodide_js", "outcome", "pytest"} & set(loaded)


def test_recipes_load_no_http_client() -> None:
    loaded = run(f"import sys, asynclocks.recipes, asynclocks.recipes.pyfetch; {LOADED}").split()
    assert not {"httpx", "pyodide", "trio"} & set(loaded)


def test_who_lacks_httpx_is_told_of_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """And which module is absent."""
    monkeypatch.delitem(sys.modules, "asynclocks.recipes.httpx", raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)  # as if it were absent
    with pytest.raises(ImportError, match=r"needs httpx: pip install 'asynclocks\[httpx\]'") as refused:
        import_module("asynclocks.recipes.httpx")
    assert refused.value.name == "httpx"


def test_the_version_is_the_one_that_was_installed() -> None:
    """Where it was installed at all."""
    import asynclocks

    assert asynclocks.__version__.count(".") == 2
    with suppress(PackageNotFoundError):
        assert version("asynclocks") == asynclocks.__version__


def test_using_it_on_asyncio_loads_no_trio() -> None:
    """A contended lock on asyncio, a plain thread's lock, and a try outside any loop."""
    loaded = run(
        f"""
import asyncio, sys, threading, asynclocks
mutex = asynclocks.Mutex()
async def work():
    async with mutex:
        await asyncio.sleep(0)
async def main():
    await asyncio.gather(work(), work())
asyncio.run(main())
thread = threading.Thread(target=lambda: mutex.blocking_lock().release())
thread.start()
thread.join()
mutex.try_lock().release()
repr(mutex)
{LOADED}
"""
    ).split()
    assert not {"trio", "anyio", "uvloop"} & set(loaded)


def test_importing_has_no_side_effects() -> None:
    """No thread, no loop, no signal handler, no hook, no context variable set, no output."""
    assert (
        run(
            """
import asyncio, gc, signal, sys, threading, warnings
import attrs, sniffio
def world():
    return (
        threading.active_count(), gc.isenabled(), gc.get_threshold(), len(gc.callbacks), sys.getswitchinterval(),
        sys.excepthook, sys.unraisablehook, sys.gettrace(), sys.getprofile(), threading.excepthook,
        sys.get_asyncgen_hooks(), sys.meta_path[:], sys.path_hooks[:], warnings.filters[:],
        [signal.getsignal(number) for number in signal.valid_signals()],
        asyncio._get_running_loop(), type(asyncio.get_event_loop_policy()) if sys.version_info < (3, 14) else None,
        sniffio.current_async_library_cvar.get(), sniffio.thread_local.name,
    )
before = world()
import asynclocks
assert world() == before, (world(), before)
asynclocks.Mutex(); asynclocks.Semaphore(3)
assert world() == before
"""
        )
        == ""
    )


def test_primitives_can_be_made_before_any_loop_and_in_any_thread() -> None:
    """At import time, as module globals are."""
    assert (
        run(
            """
import asyncio, threading, asynclocks
made = []
thread = threading.Thread(target=lambda: made.extend([asynclocks.Mutex(0), asynclocks.Semaphore(1)]))
thread.start()
thread.join()
mutex, semaphore = made
async def main():
    async with mutex as guard, semaphore:
        guard.value += 1
asyncio.run(main())
asyncio.run(main())
print(mutex.into_inner())
"""
        )
        == "2"
    )


@pytest.mark.parametrize("missing", ["trio", "uvloop"])
def test_a_blocked_optional_loop_counts_as_absent(missing: str) -> None:
    """`sys.modules[name] = None` is how programs forbid an import."""
    assert run(
        f"""
import sys
sys.modules[{missing!r}] = None
import asynclocks
mutex = asynclocks.Mutex()
mutex.blocking_lock().release()
try:
    mutex.acquire().send(None)
except asynclocks.UnsupportedLoopError as error:
    print(error)
"""
    ).startswith("no event loop runs in this thread; supported are asyncio, trio")


def test_locks_held_at_the_interpreter_s_end_do_no_harm() -> None:
    """Guards that are still alive then warn at most; nothing hangs and nothing is printed on stderr."""
    run(
        """
import warnings
warnings.simplefilter("ignore")
import asynclocks
mutex, semaphore = asynclocks.Mutex(), asynclocks.Semaphore(3)
guard, permit = mutex.try_lock(), semaphore.try_acquire(2)
mapped = asynclocks.Mutex(1).try_lock().map(str)
class Knot: pass
knot = Knot()
knot.self, knot.guard = knot, asynclocks.Mutex().try_lock()
"""
    )


def test_a_forgotten_task_and_its_lock_do_no_harm_at_the_interpreter_s_end() -> None:
    """Parked in a loop that was never closed."""
    run(
        """
import asyncio, logging, warnings
warnings.simplefilter("ignore")
logging.disable()
import asynclocks
mutex = asynclocks.Mutex()
guard = mutex.try_lock()
async def work():
    async with mutex:
        pass
async def main():
    global tasks
    tasks = [asyncio.ensure_future(work()) for _ in range(3)]
    for _ in range(3):
        await asyncio.sleep(0)
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
guard.release()
"""
    )


def test_every_public_name_exists() -> None:
    """`from asynclocks import *` gives what it lists, and each class says where it comes from."""
    import asynclocks

    assert sorted(set(asynclocks.__all__)) == sorted(asynclocks.__all__)
    for name in asynclocks.__all__:
        assert hasattr(asynclocks, name)
        assert getattr(asynclocks, name).__doc__, f"{name} tells nothing"


UNUSED_BY_A_MUTEX = {
    *(
        "_detached",
        "barrier",
        "concurrent_map",
        "condvar",
        "debug",
        "drop_in",
        "event",
        "notify",
        "once_cell",
        "protocols",
    ),
    *(
        "recipes",
        "rwlock",
        "semaphore",
        "statistics",
        "testing",
        "backends.trio",
        "backends.pyodide",
        "backends.workers",
    ),
}


def test_who_uses_a_mutex_imports_no_other_primitive() -> None:
    """What a program does not name costs it nothing, but that all of what is compiled is put in place at once."""
    loaded = run("import sys, asynclocks; asynclocks.Mutex(); print(*sys.modules)").split()
    assert "asynclocks.mutex" in loaded
    needless = {f"asynclocks.{name}" for name in UNUSED_BY_A_MUTEX} & set(loaded)
    assert needless <= ({"asynclocks.semaphore"} if compiled else set())


def test_primitives_make_no_classes_by_attrs_before_statistics_are_asked_for() -> None:
    """Making them takes as long as all the rest of an import."""
    assert (
        run(
            """
import attrs
make, attrs.frozen, attrs.define = attrs.frozen, None, None  # called, it would raise
from asynclocks import ConcurrentMap, Condvar, Event, Mutex, Notify, OnceCell, RwLock, Semaphore
attrs.frozen = make
print(Mutex().statistics())
"""
        )
        == "MutexStatistics(locked=False, owner=None, waiting=0)"
    )


def test_a_star_import_gives_every_public_name_and_no_other() -> None:
    assert (
        run(
            """
import asynclocks
scope = {}
exec("from asynclocks import *", scope)
print(*sorted(scope.keys() - {"__builtins__"} ^ set(asynclocks.__all__)))
"""
        )
        == ""
    )


def test_dir_lists_every_public_name_before_any_was_used() -> None:
    assert run("import asynclocks; print(*set(asynclocks.__all__).difference(dir(asynclocks)))") == ""


def test_an_unknown_name_is_refused_as_by_any_module() -> None:
    """`hasattr` and `from asynclocks import …` stand on it."""
    import asynclocks

    with pytest.raises(AttributeError, match=r"^module 'asynclocks' has no attribute 'Muttex'") as refused:
        _ = asynclocks.Muttex  # type: ignore[attr-defined]
    assert refused.value.name == "Muttex"
    assert refused.value.obj is asynclocks
    with pytest.raises(ImportError, match=r"^cannot import name 'Muttex' from 'asynclocks'"):
        from asynclocks import Muttex  # type: ignore[attr-defined]  # noqa: F401


def test_no_module_has_the_name_of_something_public() -> None:
    """Importing that module would put it in the place of the public thing."""
    import asynclocks

    assert not [name for name in asynclocks.__all__ if find_spec(f"asynclocks.{name}")]


def test_statistics_can_be_pickled() -> None:
    """And their class is the one that everybody gets."""
    from asynclocks import Semaphore, SemaphoreStatistics

    told = Semaphore(2).statistics()
    assert type(told) is SemaphoreStatistics
    assert pickle.loads(pickle.dumps(told)) == told
