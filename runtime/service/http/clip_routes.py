"""Routes that are asked something: of an uploaded clip, or of the library."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, HTTPException, Query, Request

from ...embedding.ask import answer_questions
from ...embedding.classify import classify
from ...embedding.labels import make_bank
from ...library import search
from .options import ServerState, told
from .schemas import Answered, Classified, Embedded, Embeddings, Found, Moments, Problem
from .uploads import TooLong, in_time, opened, received, scratch

Answer = TypeVar("Answer")

_MOST_WINDOWS = 1000  # whose embeddings one answer carries
_MOST_LABELS, _LONGEST_LABEL, _LONGEST_QUESTION = 100, 200, 500
_FAILURES: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (408, 503)}


def clips(desk: ServerState) -> APIRouter:
    """Uploads."""
    router = APIRouter(responses=_FAILURES)

    @router.post("/api/embed", openapi_extra=_form())
    async def embed_clip(request: Request) -> Embeddings:
        """The embedding of every window of a clip."""
        return await worked_on(desk, request, lambda fields: partial(_embed, desk))

    @router.post("/api/classify", openapi_extra=_form(labels="separated by commas"))
    async def classify_clip(request: Request) -> Classified:
        """Which of some labels a clip shows."""

        def prepare(fields: dict[str, str]) -> Callable[[Path, float], Classified]:
            return partial(_classify, desk, _listed(fields, "labels", 1))

        return await worked_on(desk, request, prepare)

    @router.post("/api/ask", openapi_extra=_form(question="to the clip", choices="of answers, separated by commas"))
    async def ask_clip(request: Request) -> Answered:
        """Which of some answers to a question a clip shows."""

        def prepare(fields: dict[str, str]) -> Callable[[Path, float], Answered]:
            question = " ".join(fields.get("question", "").split())
            if not 0 < len(question) <= _LONGEST_QUESTION:
                raise HTTPException(422, f"question must have 1 to {_LONGEST_QUESTION} characters: send it as a field")
            return partial(_ask, desk, question, _listed(fields, "choices", 2))

        return await worked_on(desk, request, prepare)

    return router


def library(desk: ServerState) -> APIRouter:
    """Search."""
    router = APIRouter()

    @router.get("/api/search", responses={404: {"model": Problem}})
    def find(
        text: Annotated[str, Query(min_length=1, max_length=500)], top: Annotated[int, Query(ge=1, le=100)] = 10
    ) -> Moments:
        """The moments of the library that a text describes."""
        store = desk.options.store
        if store is None:
            raise HTTPException(404, "there is no library to search: start the server with a store")
        with told(), desk.searches:
            moments = search(store, desk.model.embed_text(text), top)
        shown = [moment.as_dict() | {"file": Path(moment.file).name} for moment in moments]
        return Moments(moments=[Found(**each) for each in shown])

    return router


async def worked_on(
    desk: ServerState, request: Request, prepare: Callable[[dict[str, str]], Callable[[Path, float], Answer]]
) -> Answer:
    """Receive a clip and work on it in a thread, which has the file removed and the place given back when it ends, be
    that after the answer.

    Args:
        prepare: makes of the form's fields what is done with the file, until a time.

    Raises:
        HTTPException: 503 all places are taken, or it took too long; otherwise see received().
    """
    desk.clips.take()
    folder = scratch()

    def tidy() -> None:
        folder.cleanup()
        desk.clips.give_back()

    try:
        path, fields = await received(request, Path(folder.name), desk.options.most_upload, desk.options.patience)
        work = prepare(fields)
    except BaseException:
        tidy()
        raise

    def run() -> Answer:
        try:
            with told(path):
                return work(path, time.monotonic() + desk.options.most_seconds)
        finally:
            tidy()

    running = asyncio.get_running_loop().run_in_executor(desk.workers, run)
    too_long = HTTPException(503, f"the clip takes longer than {desk.options.most_seconds:g} s: send a shorter one")
    done, _ = await asyncio.wait({running}, timeout=desk.options.most_seconds)
    if not done:
        running.add_done_callback(lambda late: late.exception())  # nobody else asks for it
        raise too_long
    try:
        return running.result()
    except HTTPException as error:
        raise too_long if isinstance(error.__context__, TooLong) else error from None


def _embed(desk: ServerState, path: Path, until: float) -> Embeddings:
    found: list[Embedded] = []
    windows = desk.model.embed(opened(path, until, desk.closing))
    try:
        for item in windows:
            if len(found) == _MOST_WINDOWS:
                raise HTTPException(422, f"the clip has more than {_MOST_WINDOWS} windows: send a shorter one")
            values = [round(float(value), 6) for value in item.embedding]
            window = item.window
            found.append(Embedded(start=window.start, end=window.end, encoded=item.encoded, embedding=values))
    finally:
        windows.close()
    return Embeddings(windows=found)


def _classify(desk: ServerState, labels: list[str], path: Path, until: float) -> Classified:
    given = desk.model.manifest.labels
    source = opened(path, until, desk.closing)
    with source:
        bank = make_bank(desk.model, labels, progress=lambda done: in_time(until, desk.closing))
        windows = desk.model.embed(source, query=given.query or None)
        try:
            return Classified(**classify(windows, bank, given).as_dict())
        finally:
            windows.close()


def _ask(desk: ServerState, question: str, choices: list[str], path: Path, until: float) -> Answered:
    with opened(path, until, desk.closing) as source:
        return Answered(**answer_questions(desk.model, source, [question], [choices])[0].as_dict())


def _listed(fields: dict[str, str], name: str, least: int) -> list[str]:
    """Never the name of a file, as a list on the command line may be."""
    found = [" ".join(each.split()) for each in fields.get(name, "").split(",") if each.strip()]
    if not least <= len(found) <= _MOST_LABELS or any(len(each) > _LONGEST_LABEL for each in found):
        texts = f"{least} to {_MOST_LABELS} texts of at most {_LONGEST_LABEL} characters"
        raise HTTPException(422, f"{name} must be {texts}: send them as a field, with commas between")
    if len(set(found)) < len(found):
        raise HTTPException(422, f"{name} has one text twice: name each once")
    return found


def _form(**fields: str) -> dict[str, Any]:
    """How the body looks, for the description: it is read as it comes, and FastAPI does not see it."""
    properties: dict[str, Any] = {"clip": {"type": "string", "format": "binary", "description": "a video file"}}
    properties |= {name: {"type": "string", "description": what} for name, what in fields.items()}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
