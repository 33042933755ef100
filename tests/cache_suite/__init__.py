"""The public tests of HTTP caches (http-tests/cache-tests), driven against `CachingTransport`.

They stay where they are: give a checkout's path.

    git clone https://github.com/http-tests/cache-tests ../cache-tests
    python -m tests.cache_suite ../cache-tests
"""
