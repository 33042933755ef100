"""The conformance tests inside Pyodide in a browser: ``python -m tests.browser --help``."""
