"""What the interface says of itself is whole, and docs/http.md says the same."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import msgspec
import pytest

from engine.api import openapi
from engine.api.app import make_app
from engine.api.examples import EXAMPLES
from engine.api.query import NoQuery
from engine.api.route import Route
from engine.api.schemas import Status
from tests import described, http_docs


class Owner:
    """Declares what *routes* says, and handles all of it."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self.routes = routes

    def __getattr__(self, name: str) -> Any:
        return name


class Settings:
    """Of `Requests`, what the application reads."""

    body_max_bytes = 1000


def test_every_route_that_is_served_is_described() -> None:
    """A handler that is added to the application past the declarations is found."""
    routes = tuple(route for route in described.ROUTES if route.path != "/openapi.json")
    anything: Any = Settings()
    app = make_app((Owner(routes),), anything, anything)
    served = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    }
    beside = {"HEAD", "OPTIONS"}
    told = {(m.upper(), path) for path, ways in described.document()["paths"].items() for m in ways}
    assert {(method, path) for method, path in served if method not in beside} == told


def test_the_documentation_is_up_to_date() -> None:
    """Its tables are made again with ``python -m tests.http_docs``."""
    page = http_docs.PAGE.read_text(encoding="utf-8")
    assert http_docs.filled(page) == page


def test_examples_are_what_their_schemas_say() -> None:
    components = described.document()["components"]
    examples = [
        (name, one) for name, schema in components["schemas"].items() for one in schema.get("examples", ())
    ]
    assert len(examples) == len(EXAMPLES)
    for response in components["responses"].values():
        [content] = response["content"].values()
        examples.append(("Problem", content["example"]))
    for name, example in examples:
        whole = {"$ref": f"#/components/schemas/{name}", "components": components}
        jsonschema_rs.Draft202012Validator(whole).validate(example)


def test_operations_have_names_of_their_own() -> None:
    operations = [way for ways in described.document()["paths"].values() for way in ways.values()]
    assert len({way["operationId"] for way in operations}) == len(operations)
    assert all(way["summary"] and way["description"] for way in operations)


def test_what_a_route_gives_follows_from_what_it_is() -> None:
    route = Route("GET", "/x", "x", text="x", answers={200: Status})
    assert openapi.statuses_of(route) == [400, 408, 417, 500, 503]
    route = Route(
        "PUT", "/v1/x", "x", "read", text="x", takes=Status, answers={200: Status}, errors={409: "no"}
    )
    assert openapi.statuses_of(route) == [400, 401, 403, 408, 409, 413, 415, 417, 422, 500, 503]


def test_parameters_of_a_query_are_described_one_by_one() -> None:
    [state, *_, limit, cursor] = described.document()["paths"]["/v1/engine/tasks"]["get"]["parameters"]
    assert (state["name"], state["required"], state["schema"]) == (
        "state",
        False,
        {"$ref": "#/components/schemas/State"},
    )
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    assert cursor["description"] == "of the page before"


def test_a_part_of_a_path_that_nobody_describes_is_found() -> None:
    route = Route("GET", "/v1/engine/door/{door}", "x", None, NoQuery, text="x", answers={200: Status})
    with pytest.raises(KeyError, match="door"):
        openapi.document([route])


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {"content-type": "application/json"}, {"status": "ok", "new": 1}),
        (200, {"content-type": "application/json"}, {}),
        (200, {"content-type": "text/plain"}, {"status": "ok"}),
        (404, {"content-type": "application/json"}, {"status": "ok"}),
        (503, {"content-type": "application/problem+json"}, {"title": "x", "status": 503, "detail": "x"}),
    ],
)
def test_an_answer_that_is_not_described_is_told(
    status: int, headers: dict[str, str], body: dict[str, Any]
) -> None:
    """A field too many, one too few, another type, a status, a header that is missing."""
    with pytest.raises(described.UndescribedError):
        described.check("GET", "/healthz", status, headers, msgspec.json.encode(body))
