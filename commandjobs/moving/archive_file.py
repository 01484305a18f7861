"""An archive file: lines of text, compressed if its name ends in `.gz`.

It is written under the name `….partial`, flushed, and renamed at the end: a file under its own name is whole.
"""

import errno
import gzip
import io
import os
import zlib
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from commandjobs.errors import InvalidOption, StorageFull, StorageUnavailable

LEVEL = 3
"""Of compression: higher ones take 5 % off the size, and twice the time."""


@contextmanager
def writing(path: Path) -> Generator[TextIO]:
    """A new file. What an interrupted run has left under its temporary name is written anew."""
    if path.exists():
        raise InvalidOption(f"{path} exists. Name a new file, or delete that one first.")
    part = path.with_name(f"{path.name}.partial")
    try:
        with _created(part) as raw:
            with ExitStack() as stack:
                file = stack.enter_context(_compressing(raw)) if _is_compressed(path) else raw
                yield stack.enter_context(_text(file))
            raw.flush()
            os.fsync(raw.fileno())
        part.rename(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            face = StorageFull if error.errno == errno.ENOSPC else StorageUnavailable
            raise face(f"{path} cannot be written: {error.strerror or error}.") from error
        raise


@contextmanager
def reading(path: Path) -> Generator[TextIO]:
    """A file to be read. Raises `InvalidOption` if it cannot be."""
    try:
        with ExitStack() as stack:
            file: Any = stack.enter_context(gzip.open(path) if _is_compressed(path) else path.open("rb"))  # noqa: SIM115
            yield stack.enter_context(_text(file))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidOption(f"{path} is damaged or cut off: {error}.") from error
    except UnicodeDecodeError as error:
        raise InvalidOption(f"{path} is no archive file: it holds something else than text.") from error
    except OSError as error:
        raise InvalidOption(f"{path} cannot be read: {error.strerror or error}.") from error


def _is_compressed(path: Path) -> bool:
    return path.suffix == ".gz"


def _created(path: Path) -> BinaryIO:
    """Requests may hold what others must not read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _compressing(raw: BinaryIO) -> gzip.GzipFile:
    return gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=raw, mtime=0)


@contextmanager
def _text(file: Any) -> Generator[TextIO]:
    """Lines of UTF-8. Half of a surrogate pair, which a handler may have logged, comes back too."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogatepass", newline="\n")
    try:
        yield text
    finally:
        text.detach()  # flushes; whoever opened the file closes it
