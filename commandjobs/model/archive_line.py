"""A job as one line of an archive file: JSON that people can read, and that comes back exactly as it was.

    {"commandjobs": "archive", "version": 1, "id": "5f0c…", "exported": "2026-11-24T02:00:00+00:00", "jobs": 1, …}
    {"job": {"id": 1, "ref_id": "…", "command": "SendEmail", "created": "…", "request_body": "…", …}, "log": […]}
    {"tally": {"hour": "2026-11-24T01:00:00+00:00", "command": "SendEmail", "outcome": "Completed", "count": 17, …}}
    {"end": true, "jobs": 1}

What is at its default is left out; moments are written to the microsecond. A request, a result and each earlier attempt
are texts that hold JSON: not a byte of them changes. A line that is not as it should be raises `ValueError`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

from commandjobs.model.carried import Carried, KeptLine, Tie
from commandjobs.model.moment import to_datetime, to_moment
from commandjobs.model.row import JobRow
from commandjobs.model.state import Hold, JobState
from commandjobs.model.stats import Tally, TallyKey

FORMAT, VERSION = "archive", 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line."""

    id: str
    """Random: an archive file and its copies have the same."""
    exported: int
    month: date | None
    """Finished jobs of this month; None: everything there was."""
    last_id: int
    """The highest id that had been given."""
    jobs: int
    """How many follow, about: jobs may have come or gone since they were counted."""


@dataclass(frozen=True, slots=True)
class End:
    """The last line: without it something is missing."""

    jobs: int


Line = Header | Carried | tuple[TallyKey, Tally] | End


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def header_line(header: Header) -> str:
    """The first line."""
    return _dumped(
        {
            "commandjobs": FORMAT,
            "version": VERSION,
            "id": header.id,
            "exported": _shown(header.exported),
            "month": None if header.month is None else f"{header.month:%Y-%m}",
            "last_id": header.last_id,
            "jobs": header.jobs,
        }
    )


def job_line(job: Carried) -> str:
    """One job."""
    line: dict[str, Any] = {"job": _columns(job.row)}
    if not job.is_whole:
        line["only_summary"] = True
    if job.begun:
        line["begun"] = True
    if job.earlier:
        line["earlier"] = [_columns(run) for run in job.earlier]
    if job.ties:
        line["parents"] = [tie._asdict() for tie in job.ties]
    if job.log:
        line["log"] = [{**kept._asdict(), "at": _shown(kept.at)} for kept in job.log]
    return _dumped(line)


def tally_line(key: TallyKey, tally: Tally) -> str:
    """What was counted under a key."""
    counted = {"count": tally.count, "time_ms": tally.time_ms, "histogram": tally.histogram}
    named = {field.name: getattr(key, field.name) for field in fields(key)}
    return _dumped({"tally": {**named, "hour": _shown(key.hour), **counted}})


def end_line(end: End) -> str:
    """The last line."""
    return _dumped({"end": True, "jobs": end.jobs})


def _columns(row: JobRow) -> dict[str, Any]:
    values = vars(row)
    return {
        name: values[name] if write is None else write(values[name])
        for name, default, write in WRITTEN
        if name in values and values[name] != default
    }


def _shown(moment: int) -> str:
    return to_datetime(moment).isoformat()


def _dumped(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": ")) + "\n"


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def parse(text: str) -> Line:
    """What a line says. Raises `ValueError` saying what is wrong with it."""
    line = json.loads(text)
    if not isinstance(line, dict):
        raise ValueError("it is not an object")  # noqa: TRY004  whatever is wrong with a line is one error
    try:
        for kind, read in READERS.items():
            if kind in line:
                return read(line)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    raise ValueError(f"it is none of {', '.join(READERS)}")


def _header(line: Mapping[str, Any]) -> Header:
    if line["commandjobs"] != FORMAT or line["version"] != VERSION:
        raise ValueError(
            f"it is version {line['version']!r} of {line['commandjobs']!r}, and this commandjobs reads version "
            f"{VERSION} of {FORMAT!r}"
        )
    month = line["month"]
    return Header(
        id=line["id"],
        exported=_moment(line["exported"]),
        month=None if month is None else date.fromisoformat(f"{month}-01"),
        last_id=line["last_id"],
        jobs=line["jobs"],
    )


def _job(line: Mapping[str, Any]) -> Carried:
    return Carried(
        row=_row(line["job"]),
        is_whole=not line.get("only_summary", False),
        begun=line.get("begun", False),
        earlier=[_row(run) for run in line.get("earlier", ())],
        ties=[Tie(**tie) for tie in line.get("parents", ())],
        log=[KeptLine(**{**kept, "at": _moment(kept["at"])}) for kept in line.get("log", ())],
    )


def _row(columns: Mapping[str, Any]) -> JobRow:
    missing = NEEDED - columns.keys()
    unknown = columns.keys() - READ.keys()
    if missing or unknown:
        raise ValueError(f"its job has no {sorted(missing)} and an unknown {sorted(unknown)}")
    return JobRow.of({name: value if (read := READ[name]) is None else read(value) for name, value in columns.items()})


def _tally(line: Mapping[str, Any]) -> tuple[TallyKey, Tally]:
    tally = dict(line["tally"])
    histogram = {int(bucket): count for bucket, count in tally.pop("histogram").items()}
    counted = Tally(tally.pop("count"), tally.pop("time_ms"), histogram)
    return TallyKey(**{**tally, "hour": _moment(tally["hour"])}), counted


def _moment(text: str) -> int:
    return to_moment(datetime.fromisoformat(text))


def _optional(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else convert(value)


READERS: dict[str, Callable[[Mapping[str, Any]], Line]] = {
    "commandjobs": _header,
    "job": _job,
    "tally": _tally,
    "end": lambda line: End(line["jobs"]),
}

MOMENTS = (
    "created", "run_after", "expires", "started", "completed", "notified", "last_activity", "overrunning",
    "cancel_requested",
)  # fmt: skip
TEXTS = ("tags", "depends_on", "history")
MAPPINGS = ("args", "meta")
NEEDED = {"id", "ref_id", "command", "created"}

_write: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(MOMENTS, _optional(_shown)),
    **dict.fromkeys(MAPPINGS, dict),
}
_read: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(MOMENTS, _optional(_moment)),
    **dict.fromkeys(TEXTS, tuple),
    "state": JobState,
    "hold": _optional(Hold),
}
_kept = [field.name for field in fields(JobRow) if field.name != "fresh"]
WRITTEN = [
    (name, getattr(JobRow, name, None), _write.get(name)) for name in sorted(_kept, key=lambda name: name != "id")
]
"""Columns in the order in which they are written, with their defaults and how their values are written."""
READ = {name: _read.get(name) for name in _kept}
