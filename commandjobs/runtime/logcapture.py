"""Standard logging inside a job goes into the job's own log: a handler on the root logger while an engine is
entered.
"""

import logging

from commandjobs.context import running


class JobLogHandler(logging.Handler):
    """Gives every record that is logged inside a job to that job. Levels stay as the app has set them."""

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
