"""SQL is text: a backend's statements lie beside it in a `queries.sql`, each under a name and a sentence.

-- name: claim
-- Own these jobs.
update job set owner = :owner where id in (select value from json_each(:ids));

Statements of a server database may also hold `{names}`: the schema, and fragments that are written down once.

-- fragment: columns
id, ref_id, command

-- name: read_jobs
-- Whole rows.
select {columns} from {schema}.job where id = any(:ids);
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

HEAD = "-- name:"
FRAGMENT_HEAD = "-- fragment:"
PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")
"""`:name`, but no cast (`::text`)."""
NAME = re.compile(r"\{([a-z_]+)\}")

Style = Literal["$1", "%s", "?", "@"]


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """A statement as its driver wants it: placeholders in the text, and the names of the values that go there."""

    name: str
    text: str
    parameters: tuple[str, ...]

    def values(self, given: Mapping[str, Any]) -> list[Any]:
        """The values in the order of the placeholders."""
        return [given[name] for name in self.parameters]


def load_queries(package: str, file: str = "queries.sql") -> dict[str, str]:
    """The named statements of a file that lies in a package, without their comments."""
    text = (files(package) / file).read_text(encoding="utf-8")
    return _blocks(text, HEAD, file)


def load_bodies(package: str, *, file: str = "queries.sql", **substituted: str) -> dict[str, str]:
    """The same for a server: fragments and `substituted` names are filled in."""
    text = (files(package) / file).read_text(encoding="utf-8")
    known = {**substituted, **_blocks(text, FRAGMENT_HEAD, file)}
    return {name: _filled_in(body, known) for name, body in _blocks(text, HEAD, file).items()}


def statement(name: str, body: str, *, style: Style) -> Statement:
    """A statement for a driver. style: `$1` numbers the parameters, each once; `%s` and `?` mark each place; `@` makes
    variables of them, which the statement has to declare.
    """
    names = PARAMETER.findall(body)
    if style == "$1":
        order = tuple(dict.fromkeys(names))
        return Statement(name, PARAMETER.sub(lambda found: f"${order.index(found[1]) + 1}", body), order)
    if style == "@":
        return Statement(name, PARAMETER.sub(r"@\1", body), tuple(dict.fromkeys(names)))
    if style == "%s":
        body = body.replace("%", "%%")
    return Statement(name, PARAMETER.sub(lambda _: style, body), tuple(names))


def _filled_in(body: str, known: Mapping[str, str]) -> str:
    while NAME.search(body):
        body = NAME.sub(lambda found: known[found[1]], body)
    return body


def _blocks(text: str, head: str, file: str) -> dict[str, str]:
    """What stands under each heading of one kind, up to the next heading of any."""
    blocks: dict[str, str] = {}
    for block in re.split(rf"\n(?={HEAD}|{FRAGMENT_HEAD})", "\n" + text):
        first, _, body = block.lstrip("\n").partition("\n")
        if not first.startswith(head):
            continue
        name = first.removeprefix(head).strip()
        if name in blocks:
            raise ValueError(f"{file} has two statements named {name!r}.")
        blocks[name] = _uncommented(body)
    return blocks


def _uncommented(body: str) -> str:
    lines = (line for line in body.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")
