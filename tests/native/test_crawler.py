"""examples/crawler.py: links of a folder of HTML, checked over HTTP."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.native.programs import EXAMPLES, Done, imported, run

SCRIPT = EXAMPLES / "crawler.py"
PAGES = 20

both_loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])


def crawl(*arguments: object) -> Done:
    return run(SCRIPT, *arguments)


def write(folder: Path, name: str, *links: str) -> None:
    anchors = "".join(f'<a href="{link}">here</a>' for link in links)
    (folder / name).write_text(f"<!doctype html><h1 id=title>{name}</h1>{anchors}", encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pages that all link to all, the last to two dead ends as well, the first and the last to a third."""
    names = [f"{number}.html" for number in range(PAGES)]
    for name in names[1:-1]:
        write(tmp_path, name, *names)
    write(tmp_path, names[0], *names, "gone.html")
    write(tmp_path, names[-1], *names, "gone.html", "0.html#nowhere", "http://[", "0.html#title", "https://example.org")
    return tmp_path


@both_loops
def test_each_url_is_fetched_once_however_many_pages_link_to_it(folder: Path, loop: str) -> None:
    """The server counted; the dead link was asked for, too."""
    done = crawl(folder, "--loop", loop)
    assert f"the server counted {PAGES + 1} requests, none for the same URL" in done.stdout, done.stderr


@both_loops
def test_dead_links_are_reported_with_the_pages_that_hold_them(folder: Path, loop: str) -> None:
    done = crawl(folder, "--loop", loop)
    assert done.returncode == 1
    report = done.stdout.splitlines()
    site = report[0].removeprefix("dead: ").partition("0.html")[0]
    assert site.startswith("http://127.0.0.1:")
    last = f"    on {site}{PAGES - 1}.html"
    assert report[:3] == [f"dead: {site}0.html#nowhere: no such anchor on the page", last, report[2]]
    assert report[2:5] == [f"dead: {site}gone.html: 404 File not found", f"    on {site}0.html", last]
    assert report[5].startswith("dead: http://[: no URL: ")
    assert report[6] == last
    assert report[7].endswith("3 of them dead; 1 lead elsewhere and were not checked")


@both_loops
def test_without_a_folder_this_projects_documentation_is_checked(loop: str) -> None:
    """And has no dead links."""
    done = crawl("--loop", loop)
    assert done.returncode == 0, done.stdout
    assert "0 of them dead" in done.stdout


def test_progress_is_one_line_that_ends_complete(folder: Path) -> None:
    progress = crawl(folder).stderr
    assert progress.endswith(f"\r{PAGES + 2} of {PAGES + 2} URLs\n")
    assert progress.count("\n") == 1


def test_a_folder_within_is_followed_by_its_redirect_and_its_index(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    write(tmp_path, "start.html", "below", "picture.png")
    write(tmp_path, "below/index.html", "../start.html", "gone.html")
    (tmp_path / "picture.png").write_bytes(b'<a href="not.html">')
    done = crawl(tmp_path)
    assert done.returncode == 1
    assert done.stdout.count("dead: ") == 1
    assert "/below/gone.html: 404" in done.stdout


@pytest.mark.parametrize(
    ("what", "why"), [("missing", "is no folder"), ("file", "is no folder"), (".", "holds no .html")]
)
def test_a_folder_without_pages_gets_a_message_and_no_traceback(tmp_path: Path, what: str, why: str) -> None:
    (tmp_path / "file").write_text("words", encoding="utf-8")
    done = crawl(tmp_path / what)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"crawler: {tmp_path / what} {why}")
    assert done.stderr.endswith("name a folder of HTML\n")
    assert "Traceback" not in done.stderr


def test_an_unreadable_file_is_named_and_links_to_it_are_dead(folder: Path) -> None:
    (folder / "dangling.html").symlink_to(folder / "nowhere")
    write(folder, "more.html", "dangling.html")
    done = crawl(folder)
    assert f"crawler: cannot read {folder / 'dangling.html'}: {os.strerror(errno.ENOENT)}\n" in done.stderr
    assert "dangling.html: 404" in done.stdout


@pytest.mark.parametrize("port", ["port", "-1", "65536"])
def test_a_port_that_is_none_is_refused(folder: Path, port: str) -> None:
    done = crawl(folder, f"--port={port}")
    assert done.returncode == 2
    assert f"{port!r} is no number from 0 to 65535" in done.stderr


def test_a_port_in_use_gets_a_message(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = crawl(folder, "--port", port)
    assert done.returncode == 2
    assert done.stderr.startswith(f"crawler: cannot serve on 127.0.0.1:{port}: ")
    assert done.stderr.endswith("choose another --port\n")


@pytest.fixture
def program() -> Iterator[ModuleType]:
    with imported("crawler") as module:
        yield module


def test_a_url_that_is_fetched_twice_is_an_error(
    program: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when every task fetches for itself."""

    class Forgetful(program.ConcurrentMap):  # type: ignore[name-defined, misc]
        async def get_or_insert_with(self, key: str, init: Any) -> Any:
            page = await init()
            self[key] = page
            return page

    monkeypatch.setattr(program, "ConcurrentMap", Forgetful)
    assert program.main([str(folder)]) == 1
    assert f"requests for {PAGES + 1} URLs" in capsys.readouterr().err


def test_without_httpx_it_says_so(
    program: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "find_spec", lambda name: None)
    assert program.main([str(folder)]) == 2
    assert "httpx is not installed (pip install" in capsys.readouterr().err
