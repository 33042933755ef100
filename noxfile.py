"""What there is to run: `nox -l` is the menu, `nox` alone is what a push needs, `nox -s NAME -- ARGS` passes ARGS on.

A Python that is not installed is skipped with a warning, unless CI is set (as every CI service does): then it fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

HERE = Path(__file__).parent
# A session that names no Python runs on the one that nox runs on.
PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]
WORKFLOWS = [str(file.relative_to(HERE)) for file in sorted(HERE.glob(".github/workflows/*.yml"))]
PURE = {"ASYNCLOCKS_PURE": "1"}  # `compiled` runs the rest
COVER = ["--cov", "--cov-report=", "--cov-fail-under=0"]  # `coverage` demands, of all that ran together
WITHOUT_GIL = ["3.13t", "3.14t", "3.15t"]
MEASURED = PYTHONS[-1]  # in full; measuring doubles the time, and what the others do differently is in the seam only
# A newer one that nox runs on is tried as well: where it is the only one, a run that skips the others tested nothing.
TRIED = [*PYTHONS, *{f"{sys.version_info.major}.{sys.version_info.minor}"}.difference(PYTHONS)]

nox.needs_version = ">=2025.11.12"
nox.options.download_python = "never"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = [
    "tests",
    "compiled",
    "drop_in",
    "pyodide",
    "browser",
    "live",
    "workerd",
    "coverage",
    "lint",
    "types",
    "docs",
    "site",
    "examples",
]


def offer_installed() -> None:
    """Let those be found that `tools/pythons` installed, after what is on PATH."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    installed = os.environ.get("ASYNCLOCKS_PYTHONS") or Path(caches, "asynclocks", "pythons")
    os.environ["PATH"] += f"{os.pathsep}{Path(installed, 'bin')}"


def offer_pyenv() -> None:
    """Let pyenv's shims answer for each of PYTHONS that it has, beside those chosen here."""

    def ask(*what: str) -> list[str]:
        return subprocess.run(["pyenv", *what], capture_output=True, check=False, text=True).stdout.split()

    chosen = [os.environ["PYENV_VERSION"]] if "PYENV_VERSION" in os.environ else ask("version-name")
    latest = [name for version in PYTHONS for name in ask("latest", version)]
    os.environ["PYENV_VERSION"] = ":".join([*chosen, *latest])


offer_installed()
if shutil.which("pyenv"):
    offer_pyenv()


def install(
    session: nox.Session, requirements: str, *, library: str = ".[trio]", building: dict[str, str] | None = None
) -> None:
    """Install the library as it stands here, and what `requirements/` pins for this session.

    NEWEST="trio anyio" lifts the pins of these two.
    """
    session.install("-q", "-r", f"requirements/{requirements}.txt", "-e", library, env=building)
    if newest := os.environ.get("NEWEST", "").split():
        session.install("-q", "--upgrade", *newest)


def measured(version: str | bool | None) -> dict[str, str]:
    """The environment of a run whose branches `coverage` counts.

    By a trace function on every Python, so that a test may look away: see `switching` in tests/native.
    """
    return {"COVERAGE_FILE": f".coverage.py{version}", "COVERAGE_CORE": "ctrace", **PURE}


def measure_the_seam(session: nox.Session, version: str | bool | None) -> None:
    """Count the branches of what differs between Pythons, where not all tests are measured."""
    session.run("pytest", "--quiet", *COVER, "tests/seam", env=measured(version))


@nox.session
def quick(session: nox.Session) -> None:
    """Run every test but the slow ones on the Python that nox runs on, and the engine's again on what is compiled."""
    install(session, "test")
    options = ["--quiet", "-rfE", "--numprocesses=auto", "--dist=loadfile", *session.posargs]
    session.run("pytest", *options, env=PURE)
    if session.posargs:
        return
    measure_the_seam(session, f"{sys.version_info.major}.{sys.version_info.minor}")
    asked = "import asynclocks; print(asynclocks.compiled)"
    if str(session.run("python", "-c", asked, silent=True)).strip() == "True":
        session.log("what is compiled, on the compiled engine; `compiled` runs all tests on it")
        about = ("acquisition", "condvar", "deadlock", "guards", "mutex", "semaphore", "timeouts")
        files = [f"tests/conformance/test_{name}.py" for name in about]
        session.run("pytest", *options, "tests/seam", "tests/native/test_compiled.py", *files)
    else:
        session.warn("nothing was compiled when the library was installed: only pure Python was tested")


@nox.session(python=TRIED)
def tests(session: nox.Session) -> None:
    """Run every test but the slow ones on every native loop, on all cores, and measure for `coverage`."""
    install(session, "test")
    options = ["--durations=10", "--numprocesses=auto", "--dist=loadfile", *session.posargs]
    if session.python == MEASURED:
        session.run("pytest", *COVER, *options, env=measured(session.python))
    else:
        session.run("pytest", *options, env=PURE)
        if not session.posargs:
            measure_the_seam(session, session.python)


@nox.session
def pyodide(session: nox.Session) -> None:
    """Run the conformance tests inside Pyodide on Node, with stack switching and without."""
    install(session, "pyodide", library=".")
    session.run("python", "-m", "tests.pyodide", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Run the conformance tests in headless Chromium, on a page's main thread and in a Web Worker.

    Where there is no Chromium it is installed, by apt-get as root on Debian; elsewhere that fails and says so.
    """
    install(session, "pyodide", library=".")
    session.run("python", "-m", "tests.browser", "--install", *session.posargs)


@nox.session
def live(session: nox.Session) -> None:
    """Try the site's live page in headless Chromium, which is found or installed as for `browser`."""
    install(session, "pyodide", library=".")
    session.run("python", "-m", "tests.live", "--install", *session.posargs)


@nox.session(python=TRIED)
def drop_in(session: nox.Session) -> None:
    """Run the tests of asyncio's, threading's, anyio's, trio's and aiorwlock's own locks on `asynclocks.drop_in`."""
    install(session, "drop_in")
    session.run("python", "-m", "tests.drop_in", *session.posargs)


@nox.session
def workerd(session: nox.Session) -> None:
    """Run the tests of Cloudflare Workers in workerd; `-- -m slow` runs each scenario many times."""
    install(session, "workerd", library=".")
    session.run("python", "-m", "tests.workerd", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Combine what `tests`, `pyodide` and `workerd` measured, against what pyproject.toml demands."""
    install(session, "test")
    parts = sorted(file.name for file in HERE.glob(".coverage.*"))
    wanted = {
        *(f".coverage.py{version}" for version in PYTHONS),
        ".coverage.workerd-anchoring",
        ".coverage.workerd-bare",
    }
    absent = wanted - set(parts)
    session.run("coverage", "combine", *parts, silent=True)
    if absent:
        session.warn(f"not measured: {', '.join(sorted(absent))}, so nothing is demanded")
    session.run("coverage", "report", *(["--fail-under=0"] if absent else []))


@nox.session(python=PYTHONS[-1])
def compiled(session: nox.Session) -> None:
    """Compile, and run the same tests on what is in C; what could leak or crash also with the interpreter's checks.

    Without a compiler the installation must go on without.
    """
    pure = session.create_tmp()
    session.install("-q", "--target", pure, "--upgrade", ".", env={"CC": "false"})
    session.run("python", "-P", "-c", "import asynclocks; assert not asynclocks.compiled", env={"PYTHONPATH": pure})
    install(session, "test", building={"ASYNCLOCKS_COMPILED": "1"})
    session.run("python", "-c", "import asynclocks; assert asynclocks.compiled")
    session.run("pytest", "--durations=10", "--numprocesses=auto", "--dist=loadfile", *session.posargs)
    if not session.posargs:
        checked = [
            "tests/native/test_compiled.py",
            "tests/conformance/test_mutex.py",
            "tests/native/test_closed_loops.py",
        ]
        session.run("python", "-X", "dev", "-m", "pytest", *checked, env={"PYTHONMALLOC": "debug"})


@nox.session(python=PYTHONS)
def slow(session: nox.Session) -> None:
    """Run the tests that take longer than a push should wait."""
    install(session, "test")
    session.run("pytest", "-m", "slow", "-o", "faulthandler_timeout=1800", *session.posargs)


@nox.session(python="3.14")  # whose survivors are on the page; another Python has other lines to run
def mutants(session: nox.Session) -> None:
    """Change the engine in small ways, one at a time: a test must notice each, or `docs/mutants.md` say why none can.

    That takes hours. `-- --mutants-resume=all` goes on with what was begun, `-- --mutants-only=PATTERN` tries a part.
    """
    install(session, "test")
    mutated = ["asynclocks/_engine", "asynclocks/concurrent_map/lock.py", "asynclocks/concurrent_map/keys.py"]
    # These strike at each instruction, and take their time where the lines are watched.
    slow = [f"--ignore=tests/native/test_{name}.py" for name in ("struck", "ctrl_c", "soak", "httpx_soak", "mutants")]
    options = ["-s", "--quiet", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=0", "--mutants-budget=30"]
    tests = ["tests/seam", "tests/conformance", "tests/native"]
    given = [f"--mutate={path}" for path in mutated]
    session.run("pytest", "-p", "tools.mutants", *given, *options, *slow, *session.posargs, *tests, env=PURE)


@nox.session(python=[version for version in WITHOUT_GIL if shutil.which(f"python{version}")] or False)
def freethreaded(session: nox.Session) -> None:
    """Run the tests without a GIL, then those that only real parallelism makes hard, a minute each."""
    if not session.python:
        session.error("no CPython without a GIL is here; `tools/pythons 3.13t` builds one in ten minutes")
    off = {"PYTHON_GIL": "0"}  # an extension that does not say it can do without would turn it on
    # A collection looks at all that lives. At each instruction of a test, in a large process, that takes minutes.
    pytest = ["pytest", "-p", "tools.without_gil", "-o", "faulthandler_timeout=1800"]
    folders = ["tests/seam", "tests/conformance", "tests/native"]
    if session.python == "3.13t":
        install(session, "test-3.13t")
        pytest.append("--ignore=tests/native/test_github_example.py")  # it signs with cryptography
    else:
        install(session, "test")
    if session.posargs:
        session.run(*pytest, *session.posargs, env=off)
    else:
        # They collect all the time, and each time all that lives is looked at: little, in a process of their own.
        alone = [f"tests/native/{name}.py" for name in ("test_ctrl_c", "test_threads")]
        others = [f"--ignore={file}" for file in alone]
        session.run(*pytest, "--numprocesses=auto", "--dist=loadfile", *folders, *others, env=off)
        for file in alone:
            session.run(*pytest, file, env=off)
        session.run(*pytest, "-m", "freethreaded", *folders, env=off)


@nox.session
def lint(session: nox.Session) -> None:
    """Check with Ruff, the import contracts and towncrier; the hosted workflows by their schema and with zizmor."""
    install(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")
    session.run("towncrier", "build", "--draft", "--version", "next")
    session.run("check-jsonschema", "--builtin-schema=vendor.github-workflows", *WORKFLOWS)
    session.run("zizmor", "--offline", "--quiet", "--min-severity=medium", *WORKFLOWS)


@nox.session(python="3.13")  # the one that pyodide-py has types for
def types(session: nox.Session) -> None:
    """Check with mypy strict for each Python, pyright strict on `tests/typing`; no public name goes without a type."""
    install(session, "types")
    for version in PYTHONS:
        session.run("mypy", f"--python-version={version}")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "asynclocks", "--ignoreexternal")


@nox.session
def docs(session: nox.Session) -> None:
    """Run the examples in README, docs and docstrings."""
    install(session, "docs")
    pages = ["README.md", "CONTRIBUTING.md", "docs", "--ignore=docs/conf.py", "--ignore=docs/live"]
    # These can be imported inside Pyodide only.
    inside = [f"--ignore=asynclocks/backends/{name}.py" for name in ("webloop", "workers/platform")]
    docstrings = ["--doctest-modules", "asynclocks", *inside]
    session.run("python", "-m", "pytest", "-p", "tools.documented", *pages, *docstrings, *session.posargs)


@nox.session(python="3.13")  # the oldest that Sphinx runs on
def site(session: nox.Session) -> None:
    """Build the documentation's site in `build/site`; `-- --serve` shows it on 127.0.0.1:8000.

    A warning fails, and so does a link to nothing or a public name that the reference lacks.
    """
    install(session, "site", library=".[trio,httpx]")
    built = "build/site"
    strict = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet", "--jobs=auto"]
    session.run("python", "-m", "sphinx", *strict, "docs", built)
    session.run("python", "-m", "tools.live", f"{built}/live")
    options = list(session.posargs)
    if "--serve" in options:
        options.remove("--serve")
        session.run("python", "-m", "http.server", "--bind=127.0.0.1", f"--directory={built}", *options)
    else:
        session.run("python", "-m", "pytest", "tests/site", *options, env={"ASYNCLOCKS_SITE": built})


@nox.session
def examples(session: nox.Session) -> None:
    """Run every example as its reader would."""
    install(session, "examples")
    for example in sorted(HERE.glob("examples/*.py")):
        session.run("python", str(example.relative_to(HERE)))
    session.run("python", "-m", "tests.pyodide", "--script", "examples/wordcount.py")
    for loop in ("asyncio", "trio", "pyodide"):
        session.run("python", "-m", "examples.github_client", "--loop", loop)
    session.run("python", "-m", "examples.worker")


@nox.session
def release(session: nox.Session) -> None:
    """Build the release into `dist`, check it, and try it in empty environments of every Python that is here.

    `-- --final` also demands that the changelog has the version's entry, and that no fragment is left.
    """
    session.install("-q", "-r", "requirements/release.txt")
    session.run("towncrier", "build", "--draft", "--version", "next", silent=True)
    left = sorted(file.name for file in HERE.glob("changelog.d/*.md"))
    if left and "--final" in session.posargs:
        session.error(f"not in CHANGELOG.md yet: {', '.join(left)}; run `towncrier build --version VERSION`")
    shutil.rmtree(HERE / "dist", ignore_errors=True)
    here = [found for version in PYTHONS if (found := shutil.which(f"python{version}"))]
    session.run("python", "-m", "tools.release", "dist", *here)


@nox.session(python=PYTHONS)
def bench(session: nox.Session) -> None:
    """Measure ours beside the peers, interleaved in one run."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)
