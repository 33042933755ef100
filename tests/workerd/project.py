"""Serves a Python Worker's project as it stands: what wrangler.jsonc says is what the bed does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.workerd.bed import Bed, serve


@contextmanager
def serve_project(folder: Path, **variables: str) -> Iterator[Bed]:
    """Serve the project in `folder`, with these `variables` in the place of its own.

    Of wrangler.jsonc, which must be plain JSON here, it reads `main`, `vars` and the Durable Objects' class names.
    """
    settings = json.loads((folder / "wrangler.jsonc").read_text())
    main = folder / settings["main"]
    bindings = settings.get("durable_objects", {}).get("bindings", [])
    with serve(
        main.stem,
        files={"": main.parent},
        durable_objects=[binding["class_name"] for binding in bindings],
        variables={**settings.get("vars", {}), **variables},
    ) as bed:
        yield bed
