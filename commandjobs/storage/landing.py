"""What was stored is passed on before its caller hears of it; what comes of that is his answer."""

import logging
from collections.abc import Callable
from typing import Any

_log = logging.getLogger("commandjobs.storage")


def answer_of(landed: Callable[..., Any], *stored: Any) -> Any:
    """What somebody makes of what was stored, or the exception: the others have to hear of theirs."""
    try:
        return landed(*stored)
    except Exception as error:
        _log.exception("What was stored could not be passed on.")
        return error
