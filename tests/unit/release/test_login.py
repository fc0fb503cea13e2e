"""release.hosts.login: what the look at a host says."""

import pytest

from release.hosts.login import Login


def test_a_login_does_it_itself_or_as_root_by_sudo() -> None:
    own = Login.read("\n/srv/purgeline/cache\nabc  -\n")
    assert (own.before, own.place, own.digest) == ([], "/srv/purgeline/cache", "abc")
    root = Login.read("deploy may not write /srv\n/home/deploy/.cache/purgeline\n")
    assert (root.before, root.digest) == (["sudo", "-n", "--"], "")


@pytest.mark.parametrize("text", ["", "\n", "Welcome!\n\n/srv/purgeline/cache\n"])
def test_a_shell_that_says_something_else_is_noticed(text: str) -> None:
    with pytest.raises(ValueError, match="'"):
        Login.read(text)
