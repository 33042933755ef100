"""What the server knows: read from a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

SEED = Path(__file__).with_name("seed.json")
Json = dict[str, Any]


class SeedError(Exception):
    """The seed file cannot be used; the message says why."""


@attrs.frozen
class Data:
    """One app with its installations; users and repositories by their names, issues by their repository's."""

    app_id: int
    installations: frozenset[int]
    users: dict[str, Json]
    repositories: dict[str, Json]
    issues: dict[str, list[Json]]

    def owned_by(self, login: str) -> list[Json]:
        """The user's repositories."""
        return [found for name, found in self.repositories.items() if name.partition("/")[0] == login]


def load(path: Path) -> Data:
    """Read a seed file.

    Raises:
        SeedError: it is missing, no JSON, or something in it is.
    """
    try:
        seed = json.loads(path.read_text(encoding="utf-8"))
        return _data(seed)
    except OSError as error:
        raise SeedError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise SeedError(f"{path} is no JSON: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise SeedError(f"{path} lacks something ({error}); the one to go by is {SEED}") from None


def _data(seed: Json) -> Data:
    return Data(
        app_id=seed["app"]["id"],
        installations=frozenset(seed["app"]["installations"]),
        users={user["login"]: {"id": number, **user} for number, user in enumerate(seed["users"], 1)},
        repositories={found["full_name"]: _repository(found) for found in seed["repositories"]},
        issues={
            found["full_name"]: [{"number": number, **issue} for number, issue in enumerate(found["issues"], 1)]
            for found in seed["repositories"]
        },
    )


def _repository(found: Json) -> Json:
    owner, _, name = found["full_name"].partition("/")
    still_open = sum(issue["state"] == "open" for issue in found["issues"])
    return {"full_name": found["full_name"], "name": name, "owner": {"login": owner}, "open_issues_count": still_open}
