"""An engine that is used after a fork says so, and goes on in the parent."""

import asyncio
import sys

from tests.acceptance.nodes import ROOT, Site


async def test_design6_an_engine_used_after_a_fork_raises_a_clear_error(site: Site) -> None:
    program = str(ROOT / "tests" / "acceptance" / "programs" / "fork.py")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, program, str(site.database)),
        env=site.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(100):
        output, _ = await process.communicate()

    lines = output.decode().splitlines()
    assert process.returncode == 0, lines
    assert [line.split(":")[0] for line in lines] == ["child, blocking", "child, async", "parent"]
    assert all("is used after a fork" in line and "Make and enter one" in line for line in lines[:2])
    assert lines[2] == "parent: AFTER"
    assert site.texts == ["work before", "work after"]
