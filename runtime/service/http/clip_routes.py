"""Routes for uploaded clips (embed, classify, ask) and for searching the library."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, HTTPException, Query, Request

from vlj_edge.errors import valid_unicode
from vlj_edge.results import Answer, Classification
from vlj_edge.text_list import comma_separated

from ...embedding.ask import answer_questions
from ...embedding.classify import classify
from ...embedding.own_labels import has_own_labels, offered_labels
from ...library import search
from ...library.search import lowest_score
from .schemas import EmbeddedWindow, Embeddings, FoundMoment, Moments, Problem
from .state import ServerState, user_errors_as_422
from .uploads import TookTooLong, check_time, full_disk_as_507, open_clip, receive_clip, temporary_folder

Result = TypeVar("Result")

_MAX_WINDOWS = 1000  # windows whose embeddings one response carries
_MAX_LABELS, _MAX_LABEL_LENGTH, _MAX_QUESTION_LENGTH = 100, 200, 500
_FAILURES: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (408, 503, 507)}


def clips(server: ServerState) -> APIRouter:
    """Return the routes that take an uploaded clip."""
    router = APIRouter(responses=_FAILURES)

    @router.post("/api/embed", openapi_extra=_form())
    async def embed_clip(request: Request) -> Embeddings:
        """The embedding of every window of a clip."""
        return await process_clip(server, request, lambda fields: partial(_embed, server))

    @router.post("/api/classify", openapi_extra=_form(labels="separated by commas"))
    async def classify_clip(request: Request) -> Classification:
        """Classify a clip among labels, or without any among those that the model has of its own."""

        def prepare(fields: dict[str, str]) -> Callable[[Path, float], Classification]:
            own = has_own_labels(server.model) and not fields.get("labels", "").strip()
            return partial(_classify, server, None if own else _split_list(fields, "labels", 1))

        return await process_clip(server, request, prepare)

    @router.post("/api/ask", openapi_extra=_form(question="about the clip", choices="of answers, separated by commas"))
    async def ask_clip(request: Request) -> Answer:
        """Answer a question about a clip by choosing among answers."""

        def prepare(fields: dict[str, str]) -> Callable[[Path, float], Answer]:
            question = " ".join(fields.get("question", "").split())
            if not 0 < len(question) <= _MAX_QUESTION_LENGTH:
                raise HTTPException(
                    422, f"question must have 1 to {_MAX_QUESTION_LENGTH} characters: send it as a field"
                )
            return partial(_ask, server, question, _split_list(fields, "choices", 2))

        return await process_clip(server, request, prepare)

    return router


def library(server: ServerState) -> APIRouter:
    """Return the route that searches the library."""
    router = APIRouter()

    @router.get("/api/search", responses={code: {"model": Problem} for code in (404, 503)})
    def search_library(
        text: Annotated[str, Query(min_length=1, max_length=500)],
        top: Annotated[int, Query(ge=1, le=100)] = 10,
        min_score: Annotated[float | None, Query(ge=0, le=1)] = None,
    ) -> Moments:
        """Find the moments of the library that a text describes, nearest first; none below `min_score`, or below the
        bundle's floor if that is not given."""
        store = server.options.store
        if store is None:
            raise HTTPException(404, "there is no library to search: start the server with --store")
        with user_errors_as_422(), server.searches.one(), server.searching:
            found = search(store, server.model.embed_text(text), top, min_score=0)
        floor = lowest_score(store, min_score)
        named = (replace(each, file=valid_unicode(Path(each.file).name)) for each in found if each.score >= floor)
        nearest = round(found[0].score, 4) if found else None
        return Moments(moments=[FoundMoment(**each.as_dict()) for each in named], nearest=nearest)

    return router


async def process_clip(
    server: ServerState, request: Request, prepare: Callable[[dict[str, str]], Callable[[Path, float], Result]]
) -> Result:
    """Receive a clip and process it in a thread, which removes the file and gives the place back when it ends, even if
    that is after the response.

    Args:
        prepare: takes the form's fields and returns what processes the file until a time.monotonic().

    Raises:
        HTTPException: 503 all places are taken or it took too long; 507 there is no room for it; otherwise as
            receive_clip().
    """
    options = server.options
    with ExitStack() as held:
        held.enter_context(server.clips.one())
        with full_disk_as_507():
            folder = Path(held.enter_context(temporary_folder()))
            path, fields = await receive_clip(request, folder, options.max_upload, options.patience)
        process = prepare(fields)
        given_back = held.pop_all()

    def run() -> Result:
        with given_back, user_errors_as_422(path):
            return process(path, time.monotonic() + options.max_seconds)

    try:
        work = server.workers.submit(run)
    except RuntimeError:  # the server ends
        given_back.close()
        raise HTTPException(503, "the server ends: try again later") from None
    work.add_done_callback(lambda done: given_back.close())  # of one that was cancelled before it ran
    running = asyncio.wrap_future(work)
    too_long = HTTPException(503, f"the clip takes longer than {options.max_seconds:g} s: send a shorter one")
    done, _ = await asyncio.wait({running}, timeout=options.max_seconds)
    if not done:
        running.add_done_callback(lambda late: late.exception())  # or asyncio logs that nobody asked for it
        raise too_long
    try:
        return running.result()
    except HTTPException as error:
        raise too_long if isinstance(error.__context__, TookTooLong) else error from None


def _embed(server: ServerState, path: Path, until: float) -> Embeddings:
    found: list[EmbeddedWindow] = []
    windows = server.model.embed(open_clip(path, until, server.closing))
    try:
        for item in windows:
            if len(found) == _MAX_WINDOWS:
                raise HTTPException(422, f"the clip has more than {_MAX_WINDOWS} windows: send a shorter one")
            values = [round(float(value), 6) for value in item.embedding]
            window = item.window
            found.append(EmbeddedWindow(start=window.start, end=window.end, encoded=item.encoded, embedding=values))
    finally:
        windows.close()
    return Embeddings(windows=found)


def _classify(server: ServerState, labels: list[str] | None, path: Path, until: float) -> Classification:
    settings = server.model.manifest.labels
    with open_clip(path, until, server.closing) as source:
        bank = offered_labels(server.model, labels, progress=lambda done: check_time(until, server.closing))
        windows = server.model.embed(source, query=settings.query or None)
        try:
            return classify(windows, bank, settings)
        finally:
            windows.close()


def _ask(server: ServerState, question: str, choices: list[str], path: Path, until: float) -> Answer:
    with open_clip(path, until, server.closing) as source:
        return answer_questions(server.model, source, [question], [choices])[0]


def _split_list(fields: dict[str, str], name: str, at_least: int) -> list[str]:
    """Return the texts in a field. Unlike on the command line, a text is never read as the path of a file."""
    found = comma_separated(fields.get(name, ""))
    if not at_least <= len(found) <= _MAX_LABELS or any(len(each) > _MAX_LABEL_LENGTH for each in found):
        texts = f"{at_least} to {_MAX_LABELS} texts of at most {_MAX_LABEL_LENGTH} characters"
        raise HTTPException(422, f"{name} must be {texts}: send them as a field, separated by commas")
    if len(set(found)) < len(found):
        raise HTTPException(422, f"{name} has one text twice: name each once")
    return found


def _form(**fields: str) -> dict[str, Any]:
    """Return the OpenAPI description of a form, which FastAPI does not see: uploads.py reads the body as it comes."""
    properties: dict[str, Any] = {"clip": {"type": "string", "format": "binary", "description": "a video file"}}
    properties |= {name: {"type": "string", "description": what} for name, what in fields.items()}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
