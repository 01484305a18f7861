"""Imports flow one way: a module imports its own layer and the ones named beside it, and nothing else of ours."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]

FLOOR = "errors model version"
COMMANDS = "checks command registry signature exactness masking definition codec decorators options filters ref context"
PROTOCOL = "storage.base storage.landing"
BACKENDS = "storage.memory storage.queries storage.sqlite storage.sql storage.postgres storage.sqlserver"
FACE = "jobs sync"

DRAWING = (  # the modules of a layer, and what else they may import
    (FLOOR, ""),
    ("clock handover", ""),
    (COMMANDS, FLOOR),
    (PROTOCOL, FLOOR),
    (BACKENDS, f"{PROTOCOL} clock handover {FLOOR}"),
    ("storage", f"{BACKENDS} {PROTOCOL} {FLOOR}"),  # open_storage
    ("runtime", f"{PROTOCOL} {COMMANDS} clock handover {FLOOR}"),
    (FACE, f"runtime storage {PROTOCOL} {COMMANDS} clock handover {FLOOR}"),
    ("moving", f"{PROTOCOL} {FLOOR}"),  # from one storage to another
    (
        "cli __main__ testing",
        f"{FACE} moving runtime storage storage.memory {PROTOCOL} {COMMANDS} clock handover {FLOOR}",
    ),
)
MAY_IMPORT = {part: {*layer.split(), *below.split()} for layer, below in DRAWING for part in layer.split()}

FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted((ROOT / "commandjobs").rglob("*.py"))
}


def imports(node: ast.AST) -> Iterator[str]:
    """Our own modules that this code imports when it runs, wherever in it, so not those under TYPE_CHECKING."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names if name.name in FILES)
    if isinstance(node, ast.ImportFrom) and node.module in FILES:
        inner = [f"{node.module}.{name.name}" for name in node.names]
        yield from (name if name in FILES else node.module for name in inner)
    for child in ast.iter_child_nodes(node):
        yield from imports(child)


def part(module: str) -> str:
    """The longest beginning of a module's name that the drawing names."""
    name = module.removeprefix("commandjobs").removeprefix(".")
    while name not in MAY_IMPORT and "." in name:
        name = name.rpartition(".")[0]
    return name


GRAPH = {module: set(imports(ast.parse(file.read_text(encoding="utf-8")))) for module, file in FILES.items()}


def test_every_module_is_in_the_drawing() -> None:
    assert {part(module) for module in FILES} - {""} <= MAY_IMPORT.keys()


def test_imports_flow_one_way() -> None:
    inside = {module: targets for module, targets in GRAPH.items() if module != "commandjobs"}

    upward = [
        f"{module} imports {target}"
        for module, targets in inside.items()
        for target in sorted(targets)
        if part(target) not in MAY_IMPORT[part(module)]
    ]

    assert upward == []


def test_no_import_cycle() -> None:
    TopologicalSorter(GRAPH).prepare()
