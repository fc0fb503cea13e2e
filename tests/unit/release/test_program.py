"""release.tasks.program: what a wrong word is answered."""

import pytest
from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from release.tasks.program import Tasks


@task(positional=[], name="test")
def run_tests(c: Context, only: str = "") -> None:
    """Run tests."""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tset"], "there is no task 'tset'; did you mean test? (see ./inv --list)"),
        (["xyz"], "there is no task 'xyz' (see ./inv --list)"),
        (["test", "--onyl=x"], "test: nothing takes --onyl; did you mean --only? (see ./inv test --help)"),
        (["--lst"], "./inv: nothing takes --lst; did you mean --list? (see ./inv --help)"),
        (["test", "--only"], "--only needs a value (see ./inv test --help)"),
    ],
)
def test_a_wrong_word_is_one_line_and_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = Tasks(name="inv", binary="./inv", version="1", namespace=Collection(run_tests))
    with pytest.raises(SystemExit) as ended:
        program.run(["./inv", *words])
    assert (ended.value.code, capsys.readouterr()) == (2, ("", f"{said}\n"))
