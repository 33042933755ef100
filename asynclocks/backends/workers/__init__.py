"""Cloudflare Workers, where a request may end without a word: `platform` knows it, `watch` says what follows."""
