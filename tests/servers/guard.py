"""Ends the servers of a test run when that has ended, and removes their folder: `python -m tests.servers.guard FOLDER`.

The run's first process holds a lock on the file "lock" for as long as it lives, and the others end before it. Once the
guard has that lock nobody is left to use the servers, whether the run has ended well, was killed, or ran out of time.
"""

import fcntl
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

from tests.servers.process import family_of, send


def main(folder: Path) -> None:
    """Wait, and clear away."""
    with (folder / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for file in folder.glob("*/server.pid"):
            with suppress(ValueError, FileNotFoundError):
                send(signal.SIGKILL, *family_of(int(file.read_text())))
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
