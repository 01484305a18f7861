"""Where the archives lie: one file a month beside the queue file, `jobs.db` and `jobs_2026-11.db`."""

import re
from datetime import date
from pathlib import Path

from commandjobs.model.moment import month_of, month_range

SIDE_FILES = ("-wal", "-shm")


class Months:
    """The month files of one queue file, by name."""

    def __init__(self, queue_path: Path) -> None:
        self._queue = queue_path
        self._suffix = queue_path.suffix or ".db"
        self._pattern = re.compile(rf"{re.escape(queue_path.stem)}_(\d{{4}})-(\d{{2}}){re.escape(self._suffix)}")
        self._last = date.min
        self._first_moment = self._following = 0

    def of(self, created: int) -> date:
        """The month of a job. (Jobs come in the order of time, so the last answer is nearly always the next.)"""
        if not self._first_moment <= created < self._following:
            self._last = month_of(created)
            self._first_moment, self._following = month_range(self._last)
        return self._last

    def path(self, month: date) -> Path:
        """The file of a month, whether it exists or not."""
        return self._queue.with_name(f"{self._queue.stem}_{month:%Y-%m}{self._suffix}")

    def existing(self) -> list[date]:
        """The months whose files are there, oldest first; one that was put back is found again."""
        names = (self._pattern.fullmatch(file.name) for file in self._queue.parent.iterdir())
        return sorted(
            date(int(name[1]), int(name[2]), 1) for name in names if name is not None and 1 <= int(name[2]) <= 12
        )

    def quarantined(self) -> list[Path]:
        """Damaged files that were put aside."""
        return sorted(self._queue.parent.glob(f"{self._queue.stem}_????-??{self._suffix}.corrupt-*"))

    def quarantine(self, month: date) -> Path:
        """Put a damaged file aside, under a name of its own."""
        path = self.path(month)
        number = 1
        while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
            number += 1
        path.rename(aside)
        for side in SIDE_FILES:
            file = path.with_name(path.name + side)
            if file.exists():
                file.rename(aside.with_name(aside.name + side))
        return aside

    def delete(self, month: date) -> None:
        """Delete a month's file, last of all its log: without the file a log means nothing."""
        path = self.path(month)
        for name in (path.name, *(path.name + side for side in SIDE_FILES)):
            path.with_name(name).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Delete logs without a file: a process has died while it dropped a month."""
        for file in list(self._queue.parent.iterdir()):
            for side in SIDE_FILES:
                month = file.with_name(file.name.removesuffix(side))
                if month != file and self._pattern.fullmatch(month.name) and not month.exists():
                    file.unlink(missing_ok=True)
