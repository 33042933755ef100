"""What `asynclocks.drop_in.trio` takes from trio, where there is none."""

from __future__ import annotations

from asynclocks.exceptions import WouldBlock

__all__ = ["WouldBlock", "lowlevel"]


class lowlevel:  # noqa: N801 - trio's name
    """No task is one of trio's."""

    class Task:
        """Nobody makes one."""
