"""engine.api.browsers: pages of other sites may not use the engine by way of a browser."""

import pytest

from engine.api.browsers import check_browser
from engine.errors import RequestError

HERE = "127.0.0.1:9181"
OUT_THERE = "cdn.example.com"


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"Host": HERE}),  # curl, a CMS
        ("POST", {"Host": OUT_THERE}),
        ("POST", {"Host": HERE, "Origin": f"http://{HERE}"}),
        ("POST", {"Host": "localhost:9181", "Origin": "http://localhost:9181"}),
        ("POST", {"Host": "[::1]:9181", "Origin": "http://[::1]:9181"}),
        ("POST", {"Host": HERE, "Origin": "https://cdn.example.com", "Sec-Fetch-Site": "same-origin"}),
        ("GET", {"Host": HERE, "Sec-Fetch-Site": "cross-site", "Accept-Language": "en"}),  # a link in a wiki
    ],
)
def test_programs_and_its_own_page_may(method: str, headers: dict[str, str]) -> None:
    check_browser(method, headers, is_open=True)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": f"http://{HERE}", "Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_page_of_another_site_may_not(method: str, headers: dict[str, str], is_open: bool) -> None:
    with pytest.raises(RequestError) as refused:
        check_browser(method, {"Host": HERE, **headers}, is_open=is_open)
    assert refused.value.status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Host": "evil.example:9181", "Accept-Language": "en"},
        {"Host": "", "Accept-Language": "en"},
        {"Host": "localhost.evil.example", "Accept-Language": "en"},
        {"Host": "127.0.0.1.evil.example", "Accept-Language": "en"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_that_was_pointed_here_serves_no_browser_without_tokens(
    method: str, headers: dict[str, str]
) -> None:
    with pytest.raises(RequestError, match="give it tokens"):
        check_browser(method, headers, is_open=True)
    check_browser(method, headers, is_open=False)
