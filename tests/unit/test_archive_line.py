"""Lines of an archive file: what is written comes back exactly."""

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commandjobs.model.archive_line import End, Header, end_line, header_line, job_line, parse, tally_line
from commandjobs.model.carried import Carried, KeptLine, Tie
from commandjobs.model.row import JobRow
from commandjobs.model.state import Hold, JobState
from commandjobs.model.stats import Tally, TallyKey

NOON = 1795435200000001
texts = st.text(st.characters(codec=None), max_size=20)
moments = st.integers(0, 4_000_000_000_000_000)
numbers = st.integers(0, 2**40)
KINDS: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    int: numbers,
    bool: st.booleans(),
    JobState: st.sampled_from(JobState),
    Hold | None: st.none() | st.sampled_from(Hold),
    float | None: st.none() | st.floats(allow_nan=False),
    str | None: st.none() | texts,
    int | None: st.none() | moments,
    tuple[str, ...]: st.lists(texts, max_size=3).map(tuple),
    tuple[int, ...]: st.lists(numbers, max_size=3).map(tuple),
    Mapping[str, str]: st.dictionaries(texts, texts, max_size=3),
}
COLUMNS = {field.name: KINDS[field.type] for field in fields(JobRow) if field.name != "fresh"}
COLUMNS |= {"id": st.integers(1, 2**47), "created": moments}
NEEDED = ("id", "ref_id", "command", "created")
rows = st.fixed_dictionaries(
    {name: COLUMNS[name] for name in NEEDED},
    optional={name: strategy for name, strategy in COLUMNS.items() if name not in NEEDED},
).map(lambda values: JobRow(**values))
lines = st.builds(
    KeptLine, numbers, numbers, at=moments, level=texts, logger=texts, message=texts, exception=st.none() | texts
)
jobs = st.builds(
    Carried,
    row=rows,
    is_whole=st.booleans(),
    begun=st.booleans(),
    earlier=st.lists(rows, max_size=2),
    ties=st.lists(st.builds(Tie, numbers, st.none() | numbers, st.booleans()), max_size=2),
    log=st.lists(lines, max_size=2),
)


@settings(max_examples=40)
@given(jobs)
def test_a_job_comes_back_as_it_was(job: Carried) -> None:
    text = job_line(job)

    assert parse(text) == job
    assert text.count("\n") == 1


def test_a_line_can_be_read_by_people() -> None:
    row = JobRow(id=7, ref_id="abc", command="SendEmail", created=NOON, request_body='{"to": "ä"}', tags=("a",))
    job = Carried(row=row, log=[KeptLine(1, 1, NOON, "INFO", "SendEmail", "sent")])

    assert job_line(job) == (
        '{"job": {"id": 7, "ref_id": "abc", "command": "SendEmail", "created": "2026-11-23T12:00:00.000001+00:00", '
        '"request_body": "{\\"to\\": \\"ä\\"}", "tags": ["a"]}, "log": [{"sequence": 1, "attempt": 1, '
        '"at": "2026-11-23T12:00:00.000001+00:00", "level": "INFO", "logger": "SendEmail", "message": "sent", '
        '"exception": null}]}\n'
    )


@pytest.mark.parametrize("body", ['{"a":1}', '{ "a" : 1.0e0 }', '"\\u00e4\\u0000"', '"\ud83d\ude00"', "\u2028"])
def test_a_request_keeps_its_bytes(body: str) -> None:
    job = Carried(row=JobRow(id=1, ref_id="r", command="C", created=0, request_body=body))

    back = parse(job_line(job))

    assert isinstance(back, Carried)
    assert back.row.request_body == body


@pytest.mark.parametrize("month", [None, date(2026, 1, 1)])
def test_the_first_line_comes_back(month: date | None) -> None:
    header = Header(id="5f", exported=NOON, month=month, last_id=9, jobs=3)

    assert parse(header_line(header)) == header


def test_counts_come_back() -> None:
    key, tally = TallyKey(NOON, "CMD", "Work", "", "default", "Failed"), Tally(3, 0.1 + 0.2, {4: 2, 11: 1})

    assert parse(tally_line(key, tally)) == (key, tally)


def test_the_last_line_comes_back() -> None:
    assert parse(end_line(End(12))) == End(12)


JOB = {"id": 1, "ref_id": "r", "command": "C", "created": "2026-11-23T12:00:00+00:00"}


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("[1]", "it is not an object"),
        ("{}", "it is none of commandjobs, job, tally, end"),
        ('{"commandjobs": "archive", "version": 2}', "it is version 2 of 'archive', and this commandjobs reads"),
        ('{"job": {"id": 1}}', r"its job has no \['command', 'created', 'ref_id'\]"),
        (json.dumps({"job": {**JOB, "colour": "red"}}), r"an unknown \['colour'\]"),
        (json.dumps({"job": {**JOB, "state": "Paused"}}), "'Paused' is not a valid JobState"),
        (json.dumps({"job": {**JOB, "created": "now"}}), "Invalid isoformat string: 'now'"),
        (json.dumps({"job": JOB, "log": [{"at": JOB["created"]}]}), "missing 5 required"),
        ('{"job": ', "Expecting value"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(line: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse(line)
