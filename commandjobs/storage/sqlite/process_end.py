"""Hearing of another process's end in the moment it comes.

Who stands by tries for the executor's lock now and then. On Linux the kernel also tells of a process's end (a pidfd,
https://man7.org/linux/man-pages/man2/pidfd_open.2.html): a process that is killed is followed at once, and nobody
polls more often than it takes anyway.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress


class ProcessEnd:
    """Watches one process at a time. Belongs to the loop's thread."""

    def __init__(self) -> None:
        """Nobody is watched yet."""
        self._own_pid = os.getpid()
        self._pid: int | None = None
        self._fd = -1
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, pid: int | None, ended: Callable[[], None]) -> None:
        """Call back once when the process ends. None: nobody is watched any more.

        Nothing happens on systems that cannot tell, for a process that is gone already or not seen from here (another
        container), and for the one that was watched last.
        """
        if pid == self._pid:
            return
        self.close()
        if pid is None:
            return
        self._pid, self._loop = pid, asyncio.get_running_loop()
        try:
            self._fd = _pidfd_open(pid)
            self._loop.add_reader(self._fd, self._end, ended)
        except (OSError, NotImplementedError):  # gone, not here, too many files, or a loop that watches no file
            self._give_fd_back()

    def close(self) -> None:
        """Watch nobody any more."""
        self._pid = None
        # A forked child shares the loop's selector with its parent.
        if self._fd >= 0 and self._loop is not None and self._own_pid == os.getpid():
            with suppress(RuntimeError):  # the loop is closed
                self._loop.remove_reader(self._fd)
        self._give_fd_back()

    def _end(self, ended: Callable[[], None]) -> None:
        pid = self._pid
        self.close()
        self._pid = pid
        ended()

    def _give_fd_back(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


if sys.platform == "linux" and hasattr(os, "pidfd_open"):  # some builds of Python lack it, such as conda's 3.11

    def _pidfd_open(pid: int) -> int:
        return os.pidfd_open(pid)
else:

    def _pidfd_open(pid: int) -> int:
        raise NotImplementedError  # `watch` leaves it to whoever polls
