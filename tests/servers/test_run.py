"""The folder that the processes of a test run share."""

from tests.servers.run import Run


def test_a_thing_is_made_once(servers: Run) -> None:
    made = list[str]()

    def make() -> str:
        made.append("made")
        return "thing"

    assert [servers.once("thing", make) for _ in range(2)] == ["thing", "thing"]
    assert made == ["made"]


def test_a_run_that_has_started_nothing_leaves_nothing(another_run: Run) -> None:
    another_run.once("thing", lambda: "thing")

    another_run.close()

    assert not another_run.folder.exists()


def test_the_other_processes_of_a_run_find_its_folder(servers: Run) -> None:
    assert Run().folder == servers.folder
