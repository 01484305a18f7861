"""What can be used is documented: every option, public name, method, error, code and CLI command has its place."""

import inspect
import re
from pathlib import Path

import pytest
import typer

import commandjobs
from commandjobs import BackgroundJobs, CurrentJob, ErrorCode, JobOptions, errors
from commandjobs.cli.app import app

DOCS = Path(__file__).parents[2] / "docs"
NAV = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")


def text(*folders: str) -> str:
    pages = sorted(page for folder in folders for page in (DOCS / folder).rglob("*.md"))
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


WRITTEN = text("tutorial", "how-to", "explanation")
REFERENCE = text("reference")
ERRORS = (DOCS / "explanation" / "errors.md").read_text(encoding="utf-8")


def mentions(pages: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", pages) is not None


def public(cls: type) -> list[str]:
    return [name for name in vars(cls) if not name.startswith("_")]


@pytest.mark.parametrize("option", JobOptions.__annotations__)
def test_option_of_a_job_is_explained(option: str) -> None:
    assert mentions(WRITTEN, f"`{option}`") or f"`{option}=" in WRITTEN


@pytest.mark.parametrize("setting", sorted(set(inspect.signature(BackgroundJobs).parameters) - {"storage"}))
def test_setting_of_the_engine_is_explained(setting: str) -> None:
    assert mentions(WRITTEN, f"`{setting}`") or f"{setting}=" in WRITTEN


@pytest.mark.parametrize("method", sorted({*public(BackgroundJobs), *public(CurrentJob)} - {"loop"}))
def test_method_is_explained(method: str) -> None:
    assert mentions(WRITTEN, method)


@pytest.mark.parametrize("name", sorted(set(commandjobs.__all__) - {"__version__"}))
def test_public_name_is_in_the_reference(name: str) -> None:
    obj = getattr(commandjobs, name)

    assert f"::: commandjobs.{name}\n" in f"{REFERENCE}\n" or obj.__module__ in (
        "commandjobs.errors",
        "commandjobs.storage.base",
    )


@pytest.mark.parametrize(
    "error",
    sorted(
        name
        for name, obj in vars(errors).items()
        if isinstance(obj, type) and issubclass(obj, Exception) and name[0] != "_"
    ),
)
def test_error_is_explained(error: str) -> None:
    assert mentions(ERRORS, f"`{error}`")


@pytest.mark.parametrize("code", ErrorCode)
def test_code_of_a_failed_job_is_explained(code: ErrorCode) -> None:
    assert mentions(ERRORS, f"`{code.value}`")


@pytest.mark.parametrize("command", sorted(typer.main.get_command(app).commands))  # type: ignore[attr-defined]
def test_command_of_the_program_is_explained(command: str) -> None:
    assert mentions(WRITTEN, f"commandjobs {command}")


@pytest.mark.parametrize("page", sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")))
def test_page_is_in_the_navigation(page: str) -> None:
    assert mentions(NAV, page)


@pytest.mark.parametrize("page", sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")))
def test_anchor_of_a_link_exists(page: str) -> None:
    """The builder checks pages, not what is after the `#`."""
    here = DOCS / page
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", here.read_text(encoding="utf-8"))

    missing = [f"{to}#{anchor}" for to, anchor in links if anchor not in anchors((here.parent / to) if to else here)]

    assert missing == []


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}
