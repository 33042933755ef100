"""The built site (`nox -s site`): whole, and without anything from elsewhere."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from sphinx.util.inventory import InventoryFile

from asynclocks._engine.absent import Absent

REPO = Path(__file__).parents[2]
SITE = Path(os.environ.get("ASYNCLOCKS_SITE", "build/site"))
DROP_IN = [f"asynclocks.drop_in.{name}" for name in ("aiorwlock", "anyio", "asyncio", "threading", "trio")]
MODULES = [
    "asynclocks",
    "asynclocks.backends",
    "asynclocks.debug",
    "asynclocks.protocols",
    "asynclocks.recipes",
    "asynclocks.recipes.httpx",
    "asynclocks.testing",
    *DROP_IN,
]


class Page(HTMLParser):
    """What a page refers to, what it loads, and what in it can be referred to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        having = {name: value or "" for name, value in attributes}
        self.anchors.add(having.get("id", ""))
        if tag == "a" and "href" in having:
            self.links.append(having["href"])
        elif tag == "link" and having.get("rel") in {"stylesheet", "preload", "icon", "shortcut icon"}:
            self.loaded.append(having["href"])
        elif tag in {"img", "script", "iframe", "source"} and "src" in having:
            self.loaded.append(having["src"])


@pytest.fixture(scope="module")
def pages() -> dict[Path, Page]:
    return {file.resolve(): Page(file) for file in SITE.rglob("*.html") if "_modules" not in file.parts}


@pytest.fixture(scope="module")
def documented() -> set[str]:
    inventory = InventoryFile.loads((SITE / "objects.inv").read_bytes(), uri="").data
    return {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}


def public_names(name: str) -> Iterator[str]:
    """A module's public names, and those of the members that its classes have from anywhere in the library."""
    module = import_module(name)
    own = [key for key, thing in vars(module).items() if getattr(thing, "__module__", "") == name]
    for exported in getattr(module, "__all__", own):
        thing = getattr(module, exported)
        made = getattr(thing, "__module__", "")
        if exported.startswith("_") or not made.startswith("asynclocks"):  # an original's error, passed on
            continue
        shown = f"{name}.{exported}"
        yield shown
        if inspect.isclass(thing) and shown != "asynclocks.OnceLock":
            yield from (f"{shown}.{member}" for member in members(thing))


def members(thing: type[Any]) -> set[str]:
    ours = [base for base in thing.__mro__ if base.__module__.startswith("asynclocks")]
    found = {key: there for base in reversed(ours) for key, there in vars(base).items()}
    return {
        key
        for key, there in found.items()
        if not key.startswith(("_", "cr_")) and key != "kind" and not isinstance(there, Absent)
    }


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_has_every_public_name(module: str, documented: set[str]) -> None:
    """Each name that a module offers, and each member of its classes, private bases' too, is in the inventory."""
    statistics_of_anyio = {name for name in public_names(module) if module.endswith("trio") and "Statistics" in name}
    assert not set(public_names(module)) - statistics_of_anyio - documented


def test_a_private_base_hides_no_member(documented: set[str]) -> None:
    """What `ConcurrentMap` has from its private base is among its own members in the reference."""
    assert {f"asynclocks.ConcurrentMap.{name}" for name in ("alter", "snapshot", "get", "pop", "items")} <= documented


def test_links_within_the_site_lead_somewhere(pages: dict[Path, Page]) -> None:
    """Each relative link leads to a file of the site, and to an element of it where it names one."""
    lost = []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            there = pages.get(target)
            anchors = there.anchors if there else {unquote(parts.fragment)}
            if not target.exists() or unquote(parts.fragment) not in anchors:
                lost.append(f"{file.name}: {link}")
    assert not lost


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_beside_the_site_lead_to_files(name: str) -> None:
    """What the README links to is in the repository; a heading that it names is on that page."""
    lost = []
    for path, anchor in re.findall(r"\]\((?![a-z]+:)([^)#\s]+)(?:#([^)\s]*))?\)", (REPO / name).read_text()):
        target = REPO / path
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
        anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
        if not target.exists() or (anchor and anchor not in anchors):
            lost.append(f"{path}#{anchor}")
    assert not lost


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page]) -> None:
    """Styles, scripts and pictures lie beside the pages, so that the site works without a network."""
    assert not [(file.name, url) for file, page in pages.items() for url in page.loaded if urlsplit(url).netloc]


def test_the_search_needs_no_server() -> None:
    """The index is a script that lies beside the page, and knows the words of the pages."""
    index = (SITE / "searchindex.js").read_text()
    assert index.startswith("Search.setIndex(")
    assert "concurrent_map" in index
