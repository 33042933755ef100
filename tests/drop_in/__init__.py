"""The originals' own tests, run on `asynclocks.drop_in` instead: `python -m tests.drop_in`."""
