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
        self._pid: int | None = None
        self._fd = -1
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, pid: int | None, ended: Callable[[], None]) -> None:
        """Call back when the process ends, and when it is gone already. None: nobody is watched any more.

        Nothing happens on systems that cannot tell, and for a process that is not seen from here (another container).
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
        except ProcessLookupError:
            self._loop.call_soon(self._end, ended)
        except (OSError, NotImplementedError):  # not here, too many files, or a loop that watches no file
            self._give_fd_back()

    def close(self) -> None:
        """Watch nobody any more."""
        self._pid = None
        if self._fd >= 0 and self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.remove_reader(self._fd)
        self._give_fd_back()

    def _end(self, ended: Callable[[], None]) -> None:
        self.close()
        ended()

    def _give_fd_back(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


if sys.platform == "linux":

    def _pidfd_open(pid: int) -> int:
        return os.pidfd_open(pid)
else:

    def _pidfd_open(pid: int) -> int:
        raise NotImplementedError
