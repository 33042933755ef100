"""The application's parts, built on the public API only (after the GitHub client octocrab).

The clients of the HTTP cache are imported by name, since each needs what the others have not:
`asynclocks.recipes.httpx` and `asynclocks.recipes.pyfetch`.
"""

from __future__ import annotations

from asynclocks.recipes.cached_token import CachedToken
from asynclocks.recipes.global_instance import Global
from asynclocks.recipes.http_cache import (
    AsyncCacheStorage,
    AsyncCacheWriter,
    CacheStatistics,
    CacheStorage,
    CacheWriter,
    InMemoryCache,
    StoredResponse,
    Validator,
)
from asynclocks.recipes.rate_limiter import RateLimitedError, RateLimiter

__all__ = [
    "AsyncCacheStorage",
    "AsyncCacheWriter",
    "CacheStatistics",
    "CacheStorage",
    "CacheWriter",
    "CachedToken",
    "Global",
    "InMemoryCache",
    "RateLimitedError",
    "RateLimiter",
    "StoredResponse",
    "Validator",
]
