"""Check the links of a folder of HTML, which it serves itself on 127.0.0.1.

A task for every link asks a `ConcurrentMap` for the page behind it: however many ask, one fetches. A `Semaphore`
bounds how many fetch at once, a `OnceCell` has the one client, made by whoever needs it first. The server's threads
count their requests in another ConcurrentMap, so in the end both sides can compare.

    python examples/crawler.py [folder] [--loop asyncio|trio] [--at-once N] [--port N]

Without a folder: a site made of this project's documentation. Ends with 1 if a link is dead. Needs httpx.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from html import escape
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import NamedTuple
from urllib.parse import quote, urldefrag, urljoin

from asynclocks import ConcurrentMap, OnceCell, Semaphore

PROJECT = Path(__file__).resolve().parents[1]
SECONDS = 30  # for one answer
DEAD = 400  # from this status on


class Page(NamedTuple):
    """What is behind a URL."""

    fault: str | None = None  # why it is dead
    links: tuple[str, ...] = ()
    anchors: frozenset[str] = frozenset()


class Link(NamedTuple):
    """Where a URL is linked from, and the part of it that is meant."""

    source: str
    anchor: str = ""


class LinkFinder(HTMLParser):
    """Collects where a page leads, and where one can arrive in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        for name, value in attrs:
            if value and name in {"href", "src"}:
                self.links.append(value.strip())
            elif value and name in {"id", "name"}:
                self.anchors.add(value)


class Crawler:
    """All tasks share it, on whatever loop."""

    def __init__(self, site: str, at_once: int) -> None:
        self.site = site  # URLs that begin with it are checked
        self.pages: ConcurrentMap[str, Page] = ConcurrentMap()
        self.links: ConcurrentMap[str, frozenset[Link]] = ConcurrentMap()  # to each URL
        self.elsewhere = 0  # links that lead to other sites
        self._slots = Semaphore(at_once, name="fetches at once")
        self._client: OnceCell[httpx.AsyncClient] = OnceCell()
        self._shown_at = 0.0

    async def crawl(self, starts: list[str]) -> None:
        """Follow every link from these pages on."""
        try:
            async with anyio.create_task_group() as tasks:
                for url in starts:
                    tasks.start_soon(self._follow, tasks, url, Link("the start"))
        finally:
            if self._client.initialized():
                with anyio.CancelScope(shield=True):
                    await self._client.get().aclose()
        self._show()

    async def _follow(self, tasks: anyio.abc.TaskGroup, url: str, link: Link) -> None:
        async with self.links.entry(url) as entry:
            first = entry.is_vacant
            entry.value = entry.get(frozenset[Link]()) | {link}
        page = await self.pages.get_or_insert_with(url, partial(self._fetch, url))
        if first:  # the others need not look where it leads
            for target in page.links:
                self._sort(tasks, target, url)
        if monotonic() - self._shown_at > 0.1:
            self._show()

    def _sort(self, tasks: anyio.abc.TaskGroup, target: str, source: str) -> None:
        """Check what belongs to this site, count what leads elsewhere."""
        try:
            url, anchor = urldefrag(urljoin(source, target))
        except ValueError as error:
            self.pages[target] = Page(f"no URL: {error}")
            self.links[target] = self.links.get(target, frozenset[Link]()) | {Link(source)}
            return
        if url.startswith(self.site):
            tasks.start_soon(self._follow, tasks, url, Link(source, anchor))
        else:
            self.elsewhere += 1

    async def _fetch(self, url: str) -> Page:
        """Once for each URL, however many wait for it."""
        async with self._slots:
            client = await self._client.get_or_init(partial(httpx.AsyncClient, timeout=SECONDS, trust_env=False))
            try:
                response = await client.get(url)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                return Page(str(error) or type(error).__name__)
        if response.status_code >= DEAD:
            return Page(f"{response.status_code} {response.reason_phrase}")
        if response.has_redirect_location:  # where it leads is one more URL to be fetched once
            return Page(links=(response.headers["location"],))
        if not response.headers.get("content-type", "").startswith("text/html"):
            return Page()
        found = LinkFinder(response.text)
        return Page(links=tuple(found.links), anchors=frozenset(found.anchors))

    def _show(self) -> None:
        self._shown_at = monotonic()
        print(f"\r{len(self.pages)} of {len(self.links)} URLs", end="", file=sys.stderr, flush=True)

    def dead(self) -> Iterator[tuple[str, str, list[str]]]:
        """Every dead link: what, why, on which pages."""
        for url, links in sorted(self.links.items()):
            page = self.pages[url]
            if page.fault is not None:
                yield url, page.fault, sorted({link.source for link in links})
                continue
            for anchor in sorted({link.anchor for link in links} - page.anchors - {"", "top"}):
                sources = sorted(link.source for link in links if link.anchor == anchor)
                yield f"{url}#{anchor}", "no such anchor on the page", sources


class Server(ThreadingHTTPServer):
    """Serves a folder, and counts."""

    def __init__(self, folder: Path, port: int) -> None:
        self.requests: ConcurrentMap[str, int] = ConcurrentMap()
        super().__init__(("127.0.0.1", port), partial(Handler, directory=str(folder)))

    @property
    def url(self) -> str:
        """Of the folder."""
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(SimpleHTTPRequestHandler):
    """Runs in a thread for each request."""

    server: Server

    def do_GET(self) -> None:
        """Count, then serve."""
        with self.server.requests.blocking_entry(self.path) as entry:
            entry.value = entry.get(0) + 1
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing: progress is shown by the crawler."""


@contextmanager
def serving(server: Server) -> Iterator[None]:
    """Let it serve meanwhile."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    with server:
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def render(markdown: str) -> str:
    """As much of Markdown as a link checker needs: headings, links, code."""
    lines = []
    code = False
    for line in markdown.splitlines():
        if line.lstrip().startswith("```"):
            code = not code
            lines.append("<pre>" if code else "</pre>")
        elif code:
            lines.append(escape(line))
        elif line.startswith("#"):
            level, title = len(line) - len(line.lstrip("#")), line.lstrip("# ")
            anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            lines.append(f'<h{level} id="{anchor}">{render_line(title)}</h{level}>')
        else:
            lines.append(render_line(line) or "<p>")
    return "\n".join(lines)


def render_line(line: str) -> str:
    """Its links and code."""
    return re.sub(r"\[((?:`[^`]*`|[^\]`])*)\]\(([^)\s]+)\)|`([^`]*)`|([<>&])", _render_piece, line)


def _render_piece(piece: re.Match[str]) -> str:
    text, target, code, sign = piece.groups()
    if target is None:
        return f"<code>{escape(code)}</code>" if sign is None else escape(sign)
    page = re.sub(r"\.md(?=#|$)", ".html", target) if "://" not in target else target
    return f'<a href="{escape(page)}">{render_line(text)}</a>'


def build_documentation(folder: Path) -> None:
    """Render this project's pages into the folder.

    Raises:
        OSError: they are not there, or cannot be read.
    """
    sources = [
        path for folder in ("", "benchmarks/", "docs/**/", "examples/**/") for path in PROJECT.glob(f"{folder}*.md")
    ]
    if not sources:
        raise FileNotFoundError(0, "has no documentation", str(PROJECT))
    for source in sources:
        text = source.read_text("utf-8")
        page = folder / source.relative_to(PROJECT).with_suffix(".html")
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"<!doctype html><meta charset=utf-8>\n{render(text)}", "utf-8")
        for target in re.findall(r"\]\(([^)\s:]+\.(?:py|rst|svg))\)", text):
            other = (source.parent / target).resolve()
            if other.is_file() and other.is_relative_to(PROJECT):  # else the link is dead
                copy = folder / other.relative_to(PROJECT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(other.read_bytes())


def find_pages(folder: Path) -> list[str]:
    """The paths of its pages; what cannot be read is told on stderr, and links to it will be dead.

    Raises:
        OSError: there is no page.
    """
    if not folder.is_dir():
        raise NotADirectoryError(0, "is no folder", str(folder))
    found = []
    for path, _, names in os.walk(folder, onerror=_say_unreadable):
        for file in [Path(path, name) for name in names]:
            try:
                with file.open("rb"):
                    pass
            except OSError as error:
                _say_unreadable(error)
            else:
                found.append(file.relative_to(folder).as_posix())
    pages = sorted(name for name in found if name.endswith((".html", ".htm")))
    if not pages:
        raise FileNotFoundError(0, "holds no .html file that can be read", str(folder))
    return pages


def _say_unreadable(error: OSError) -> None:
    print(f"crawler: cannot read {error.filename}: {error.strerror}", file=sys.stderr)


def check(server: Server, pages: list[str], options: argparse.Namespace) -> int:
    """Crawl, report; the exit code."""
    crawler = Crawler(server.url, options.at_once)
    starts = [server.url + quote(page) for page in pages]
    anyio.run(crawler.crawl, starts, backend=options.loop)
    print(file=sys.stderr)
    dead = list(crawler.dead())
    for url, why, sources in dead:
        print(f"dead: {url}: {why}", *sources, sep="\n    on ")
    links = sum(map(len, crawler.links.values())) - len(starts)
    print(
        f"{links:,} different links to {len(crawler.links):,} URLs of this site, {len(dead):,} of them dead; "
        f"{crawler.elsewhere:,} lead elsewhere and were not checked"
    )
    requests = server.requests.snapshot()
    if any(count > 1 for count in requests.values()):
        print(f"{sum(requests.values()):,} requests for {len(requests):,} URLs", file=sys.stderr)
        return 1
    print(f"the server counted {len(requests):,} requests, none for the same URL")
    return 1 if dead else 0


def parse(argv: list[str]) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="crawler", description="Check the links of a folder of HTML.")
    parser.add_argument("folder", nargs="?", type=Path, help="default: this project's documentation")
    parser.add_argument("--loop", choices=["asyncio", "trio"], default="asyncio")
    parser.add_argument("--at-once", type=partial(_number, 1, 1000), default=8, help="fetches at once (default: 8)")
    parser.add_argument("--port", type=partial(_number, 0, 65535), default=0, help="default: any that is free")
    return parser.parse_args(argv)


def _number(least: int, most: int, text: str) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} to {most}")
    return int(text)


def main(argv: list[str]) -> int:
    """Find the pages, serve them, check them; the exit code."""
    options = parse(argv)
    for module in ("httpx", options.loop):
        if find_spec(module) is None:
            print(f"crawler: {module} is not installed (pip install 'asynclocks[httpx,trio]')", file=sys.stderr)
            return 2
    with TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        try:
            if options.folder is None:
                build_documentation(folder)
            pages = find_pages(folder)
        except OSError as error:
            print(f"crawler: {error.filename} {error.strerror}; name a folder of HTML", file=sys.stderr)
            return 2
        try:
            server = Server(folder, options.port)
        except OSError as error:
            where = f"127.0.0.1:{options.port}"
            print(f"crawler: cannot serve on {where}: {error.strerror}; choose another --port", file=sys.stderr)
            return 2
        with serving(server):
            return check(server, pages, options)


with suppress(ImportError):  # `main` says what is missing
    import anyio
    import httpx

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("\ninterrupted")
