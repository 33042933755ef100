"""The site's live page in headless Chromium: ``python -m tests.live --help``."""
