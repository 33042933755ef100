"""Ours beside the peers, interleaved in one run: ``python -m benchmarks``. README.md has the method."""
