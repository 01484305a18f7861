"""SQL is text: a backend's statements lie beside it in a `queries.sql`, each under a name and a sentence.

-- name: claim
-- Own these jobs.
update job set owner = :owner where id in (select value from json_each(:ids));
"""

from importlib.resources import files

HEAD = "-- name:"


def load_queries(package: str, file: str = "queries.sql") -> dict[str, str]:
    """The named statements of a file that lies in a package, without their comments."""
    text = (files(package) / file).read_text(encoding="utf-8")
    _, *blocks = ("\n" + text).split("\n" + HEAD)
    queries: dict[str, str] = {}
    for block in blocks:
        name, _, body = block.partition("\n")
        if name.strip() in queries:
            raise ValueError(f"{file} has two statements named {name.strip()!r}.")
        queries[name.strip()] = _statement(body)
    return queries


def _statement(body: str) -> str:
    lines = (line for line in body.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")
