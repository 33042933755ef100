"""The conformance tests inside Pyodide on Node: ``python -m tests.pyodide --help``."""
