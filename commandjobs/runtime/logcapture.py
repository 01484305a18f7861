"""Standard logging inside a job goes into the job's own log: a handler on the root logger while an engine is
entered. One is enough for all engines of the process, and with two of them each line would be there twice.
"""

import logging
import threading

from commandjobs.context import running


class JobLogHandler(logging.Handler):
    """Gives every record that is logged inside a job to that job. Levels stay as the app has set them."""

    _attaching = threading.Lock()

    def __init__(self) -> None:
        """Not attached yet."""
        super().__init__()
        self.engines = 0
        """How many need it."""

    @classmethod
    def attach(cls) -> "JobLogHandler":
        """Have what jobs log from now on, for one more engine; `detach` ends it."""
        root = logging.getLogger()
        with cls._attaching:
            there = next((handler for handler in root.handlers if isinstance(handler, cls)), None)
            handler = there or cls()
            handler.engines += 1
            root.addHandler(handler)  # does nothing if it is there
        return handler

    def detach(self) -> None:
        """One engine less needs it."""
        with self._attaching:
            self.engines -= 1
            if not self.engines:
                logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record, if a job runs in this context."""
        execution = running.get(None)
        if execution is not None:
            execution.log(record)
        if logging.lastResort is not None and not self._others_hear(record):
            # Without any handler, logging prints warnings itself; it must go on doing so although this one is there.
            last = logging.lastResort
            if record.levelno >= last.level:
                last.handle(record)

    def _others_hear(self, record: logging.LogRecord) -> bool:
        """Whether the app has a handler for this record."""
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(not isinstance(handler, JobLogHandler) for handler in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False
