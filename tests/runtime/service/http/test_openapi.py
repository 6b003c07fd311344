"""Every route against its OpenAPI description, with generated requests."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi import checks as found

from tests.runtime.service.http.server import Camera, Served
from tests.runtime.tiny_bundle import RED
from tests.waiting import wait_for
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.http.app import Broadcaster, ServerOptions, build_app
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.video.source import Source

ENDLESS = ("/api/events", "/api/sources/{name}/video.mjpg")  # test_watching.py reads those
CODES = {"200", "400", "401", "403", "413", "422"}


@pytest.fixture
def served(model: Model, cameras: dict[str, Source]) -> Iterator[Served]:
    cameras["cam"] = Camera([RED])
    options = ServerOptions(token="right", save=lambda sources: "kitchen.toml", max_upload=50_000)
    running = Served(model, [SourceSettings("cam", "cam")], options, [], 0).start()
    wait_for(running.last)
    yield running
    running.stop()


def test_every_answer_is_described(model: Model) -> None:
    paths = build_app(Station(model, []), Broadcaster(), ServerOptions()).openapi()["paths"]
    for path, methods in paths.items():
        for method, described in methods.items():
            codes = set(described["responses"])
            assert codes >= CODES, (method, path)
            assert ("404" in codes) == ("{" in path or path in ("/api/search", "/api/settings/save")), path
            assert bool(described.get("security")) == (path != "/healthz"), path
    assert set(ENDLESS) <= set(paths) and "HTTPValidationError" not in str(paths)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_the_application_does_what_it_describes(served: Served, mode: str) -> None:
    checks = [
        schemathesis.checks.not_a_server_error,
        found.status_code_conformance,
        found.content_type_conformance,
        found.response_headers_conformance,
        found.response_schema_conformance,
        found.negative_data_rejection,
        found.unsupported_method,
    ]
    with served.client(Authorization="Bearer right") as client:
        description = client.get("/openapi.json").json()
    for path in ENDLESS:
        del description["paths"][path]
    asked = 0
    for result in schemathesis.openapi.from_dict(description).get_all_operations():
        operation = result.ok()
        cases = operation.as_strategy(generation_mode=getattr(schemathesis.GenerationMode, mode.upper()))

        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            if "name" in case.path_parameters and asked % 2:
                case.path_parameters["name"] = "cam"
            case.call_and_validate(base_url=served.url, headers={"Authorization": "Bearer right"}, checks=checks)

        run_with(ask, cases)
    assert asked > 50
    assert served.last() is not None and served.station.channels["cam"].error is None


def run_with(ask: Any, cases: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bounded = settings(max_examples=15, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
        try:
            bounded(given(cases)(ask))()
        except Unsatisfiable:  # nothing about it can be wrong
            return
