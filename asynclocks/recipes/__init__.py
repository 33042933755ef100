"""The application's parts, built on the public API only (after the GitHub client octocrab)."""

from __future__ import annotations

from asynclocks.recipes.cached_token import CachedToken
from asynclocks.recipes.global_instance import Global

__all__ = ["CachedToken", "Global"]
