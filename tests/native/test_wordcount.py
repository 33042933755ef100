"""examples/wordcount.py: the README's first command."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.native.programs import EXAMPLES, Done, imported, run

SCRIPT = EXAMPLES / "wordcount.py"


def count(*arguments: object) -> Done:
    return run(SCRIPT, *arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(40):
        below = tmp_path / f"below{number % 4}"
        below.mkdir(exist_ok=True)
        (below / f"f{number}.py").write_text("same = same\nother = 1\n", encoding="utf-8")
    (tmp_path / "no_python.txt").write_text("same", encoding="utf-8")
    return tmp_path


def test_words_are_added_up_and_agree_with_a_sequential_count(folder: Path) -> None:
    done = count(folder)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["80", "same"] in lines
    assert "160 words in 40 files" in done.stdout
    assert "as many" in done.stdout
    shares = [int(line[0]) for line in lines if line[1:3] == ["files", "by"]]
    assert sum(shares) == 40


def test_progress_is_one_line_that_ends_complete(folder: Path) -> None:
    progress = count(folder).stderr
    assert "\r40 of 40 files" in progress
    assert progress.count("\n") == 1


def test_at_most_ten_words_are_shown_most_frequent_first(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(" ".join(f"word{n} " * n for n in range(1, 21)), encoding="utf-8")
    shown = [line.split()[1] for line in count(tmp_path).stdout.splitlines() if " word" in line and "words" not in line]
    assert shown == [f"word{n}" for n in range(20, 10, -1)]


@pytest.mark.parametrize("what", ["missing", "file"])
def test_what_is_no_folder_gets_a_message_and_no_traceback(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_text("words", encoding="utf-8")
    done = count(tmp_path / what)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"wordcount: {tmp_path / what} is no folder; name a folder that holds .py files\n"


def test_folder_without_python_files_is_named(tmp_path: Path) -> None:
    done = count(tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"wordcount: {tmp_path} holds no .py file; name a folder that holds .py files\n"


def test_unreadable_files_are_named_and_skipped(folder: Path) -> None:
    (folder / "binary.py").write_bytes(b"\xff\xfe\x00\x80")
    (folder / "unknown.py").write_bytes(b"# coding: nonsense\nwords = 1\n")
    (folder / "notext.py").write_bytes(b"# coding: hex\nwords = 1\n")
    (folder / "dangling.py").symlink_to(folder / "nowhere")
    done = count(folder)
    assert done.returncode == 0
    assert "160 words in 40 files" in done.stdout
    reasons = dict(re.findall(r"^skipped (\S+\.py): (.+)$", done.stderr, re.MULTILINE))
    assert reasons.keys() == {str(folder / f"{name}.py") for name in ("binary", "unknown", "notext", "dangling")}
    assert reasons[str(folder / "dangling.py")] == "no regular file, or gone"  # the others are in CPython's words
    assert "Traceback" not in done.stderr


def test_many_unreadable_files_are_summed_up(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.py").write_bytes(b"\xff")
    done = count(tmp_path)
    assert done.returncode == 0
    assert done.stderr.endswith("skipped 3 more\n")
    assert "0 words in 0 files" in done.stdout


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read anything")
def test_forbidden_files_are_named_and_skipped(folder: Path) -> None:
    (folder / "secret.py").write_text("words", encoding="utf-8")
    (folder / "secret.py").chmod(0)
    done = count(folder)
    assert done.returncode == 0
    assert f"skipped {folder / 'secret.py'}: {os.strerror(errno.EACCES)}" in done.stderr


def test_declared_encoding_is_minded(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes("# coding: latin-1\nümlaut".encode("latin-1"))
    assert "1 ümlaut" in count(tmp_path).stdout


def test_archive_serves_as_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
        archive.writestr("package/module.py", "one two two")
        archive.writestr("package/data.txt", "three")
    assert "3 words in 1 files" in count(tmp_path / "lib.zip").stdout


def test_without_trio_it_says_so_and_counts_all_the_same(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    hiding = tmp_path_factory.mktemp("hiding")
    (hiding / "trio.py").write_text("raise ImportError('as if not installed')", encoding="utf-8")
    source = f"import runpy, sys; sys.path.insert(0, {str(hiding)!r}); sys.argv = ['wordcount', {str(folder)!r}]; "
    source += f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    done = run("-c", source)
    assert done.returncode == 0, done.stderr
    assert "trio is not installed" in done.stderr
    assert "160 words in 40 files" in done.stdout


@pytest.fixture
def program() -> Iterator[ModuleType]:
    with imported("wordcount") as module:
        yield module


def test_one_loop_does_it_all_where_there_are_no_threads(
    program: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "IN_PYODIDE", True)
    assert asyncio.run(program.main([str(folder)])) == 0
    printed = capsys.readouterr().out
    assert "40 files by asyncio\n" in printed
    assert "160 words in 40 files" in printed


def test_a_difference_is_an_error(
    program: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add = program.Job.add

    def lose_one(job: object, total: object, found: object, worker: str) -> None:
        add(job, total, found, worker)
        total["same"] -= job.shares.total() == 1

    monkeypatch.setattr(program.Job, "add", lose_one)
    assert asyncio.run(program.main([str(folder)])) == 1
    assert "159 words in 40 files, but one by one they are 160" in capsys.readouterr().err


def test_workers_of_every_kind_take_part_at_once(folder: Path) -> None:
    """Nobody gets past the first file until all seven threads have one (each loop has four tasks)."""
    source = f"""
import asyncio, sys, threading
sys.path.insert(0, {str(SCRIPT.parent)!r})
import asynclocks, wordcount

wordcount.Semaphore = lambda permits, name: asynclocks.Semaphore(16, name=name)
read, together, first = wordcount.Job.read, threading.Barrier(7), threading.local()

def read_together(job, file):
    if not hasattr(first, "came"):
        first.came = True
        together.wait(30)
    return read(job, file)

wordcount.Job.read = read_together
sys.exit(asyncio.run(wordcount.main([{str(folder)!r}])))
"""
    done = run("-c", source)
    assert done.returncode == 0, done.stderr
    for worker in ("asyncio", "asyncio, another loop", "trio", "threads"):
        assert f"files by {worker}\n" in done.stdout
