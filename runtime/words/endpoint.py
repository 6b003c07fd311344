"""Words from a chat endpoint: any server with OpenAI's chat completions and a model that takes pictures."""

from __future__ import annotations

import json
import logging
import threading
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from vlj_edge.errors import VljEdgeError, WrongCall
from vlj_edge.json_text import json_text
from vlj_edge.variables import with_variables

from ..http_post import web_address
from ..video.recordings.image import encode_jpeg
from ..video.source import Image
from .chat_call import ChatCall, Closed, NoReply, Server
from .failures import Failures
from .json_schema import NotAsAsked, check_schema, parse_answer
from .numbers import check_number, check_whole
from .prompt import WordsContext, check_prompt, prompt_for
from .reply import Reply, Unreadable, read_reply

TIMEOUT, MOST_TOKENS = 20.0, 200
_QUALITY = 85  # of the JPEGs
_MOST_JSON = 20_000  # characters of an answer in JSON
_LOG = logging.getLogger(__name__)
Interrupting = Callable[[Callable[[], None]], AbstractContextManager[None]]


class Endpoint:
    """Asks a vision-language model behind an OpenAI-compatible server (Ollama, llama.cpp, vLLM, LM Studio, ...).

    Each request is one user message: the prompt, then the pictures as JPEGs in order of time; standard fields only, at
    temperature 0. It has a connection of its own, which a redirect to another server does not get. A server that
    cannot be reached, loads its model or is busy is asked again, with pauses that grow, until `timeout` is over; one
    that refuses is not. May be called from several threads.

    Args:
        url: such as http://localhost:11434/v1. ${NAME} in it stands for the environment's NAME.
        model: its name on the server; None: the field is left out, as llama.cpp allows.
        key: sent as a bearer token; it is in no message, log or event.
        prompt: None for a default one. {camera}, {last} (what was said last), {nearest} (what the bundle itself has
            for it), {seconds} and {like} (an earlier answer to what looked much alike) in it are replaced.
        timeout: seconds for an answer, with all attempts.
        most_tokens: of an answer, what the model thinks aloud included.
        schema: a JSON schema of an object: the answer is asked for in this form, checked, and passed on as JSON.

    Raises:
        VljEdgeError: an argument cannot be used.

    Example:
        >>> import vlj_edge
        >>> vlj_edge.Endpoint("http://localhost:11434/v1", "qwen3-vl:4b").shown
        'qwen3-vl:4b at http://localhost:11434'
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        key: str | None = None,
        prompt: str | None = None,
        timeout: float = TIMEOUT,
        most_tokens: int = MOST_TOKENS,
        schema: dict[str, Any] | None = None,
    ) -> None:
        _check_types(url, model, key, prompt, timeout, most_tokens)
        if prompt is not None:
            check_prompt(prompt)
        address = web_address(with_variables(url))
        self._server = Server(replace(address, url=_completions(address.url)), checked_key(key))
        self._model, self._prompt, self._timeout, self._schema = model, prompt, timeout, schema
        self.in_json = schema is not None
        self._limit = {"max_tokens": most_tokens}
        self._most_tokens = most_tokens
        self._failures = Failures(_LOG)
        self.shown = address.server if model is None else f"{model} at {address.server}"
        if not 0 < timeout < threading.TIMEOUT_MAX or most_tokens < 1:
            raise WrongCall(f"{timeout:g} s and {most_tokens} tokens leave no room for an answer: give more")
        if schema is not None:
            try:
                check_schema(schema)
            except ValueError as error:
                raise VljEdgeError(str(error)) from None

    @property
    def is_quiet(self) -> bool:
        """Whether the server asks to be left alone."""
        return self._server.is_quiet

    def __call__(self, frames: Sequence[Image], context: WordsContext) -> Reply:
        """Return what the model says about pictures, uint8 [height, width, 3] BGR, in order of time.

        Raises:
            NoReply: it gave no answer that can be used; one line that says why.
        """
        return self.ask(frames, context)

    def ask(
        self,
        frames: Sequence[Image],
        context: WordsContext,
        interrupting: Interrupting = lambda interrupt: nullcontext(),
    ) -> Reply:
        """As a call; inside `interrupting(function)`, the function ends the request from any thread."""
        try:
            reply = self._read(self._post(self._body(frames, context), interrupting))
        except Closed:
            raise
        except NoReply as error:
            self._failures.add(str(error), context.camera)
            raise
        self._failures.end(self.shown)
        return reply

    def asking(self, question: str) -> Endpoint:
        """Return the same endpoint with another prompt, for an answer in words."""
        other = copy(self)
        other._prompt, other._schema, other.in_json = question, None, False
        return other

    def _body(self, frames: Sequence[Image], context: WordsContext) -> dict[str, Any]:
        text = prompt_for(self._prompt, context, self._schema)
        parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
        for frame in frames:
            data = b64encode(encode_jpeg(frame, max(1, frame.shape[1]), _QUALITY)).decode()
            parts.append({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}})
        body: dict[str, Any] = {} if self._model is None else {"model": self._model}
        body |= {"messages": [{"role": "user", "content": parts}], "temperature": 0, "stream": False}
        if self._schema is not None:
            schema = {"name": "answer", "strict": True, "schema": self._schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def _post(self, body: dict[str, Any], interrupting: Interrupting) -> bytes:
        call = ChatCall(self._server, self._timeout)
        with interrupting(call.interrupt):
            try:
                return call.post(json.dumps(body | self._limit).encode())
            except NoReply as error:
                # Newer models of OpenAI know the limit by another name, and no temperature.
                if "max_tokens" not in self._limit or "max_completion_tokens" not in str(error):
                    raise
                self._limit = {"max_completion_tokens": self._most_tokens}
                return call.post(json.dumps(body | self._limit).encode())

    def _read(self, response: bytes) -> Reply:
        try:
            reply = read_reply(response) if self._schema is None else read_reply(response, _MOST_JSON)
        except Unreadable as error:
            raise self._no_reply(str(error)) from None
        text = self._server.without_key(reply.text)
        if not text:
            why = "it reached its limit of tokens" if reply.cut_short else "its answer is empty"
            raise self._no_reply(why, reply.tokens)
        if self._schema is None:
            return replace(reply, text=text)
        try:
            data = parse_answer(text, self._schema)
        except NotAsAsked as error:
            raise self._no_reply(str(error), reply.tokens) from None
        return replace(reply, text=json_text(data), data=data)

    def _no_reply(self, why: str, tokens: int | None = None) -> NoReply:
        return NoReply(f"no words from {self.shown}: {self._server.without_key(why)}", tokens)


def _completions(url: str) -> str:
    """Return the address of chat completions, of an API whose address may be given with or without its version."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if not path.endswith("/chat/completions"):
        path = f"{path or '/v1'}/chat/completions"
    return urlunsplit(parts._replace(path=path))


def _check_types(url: Any, model: Any, key: Any, prompt: Any, timeout: Any, most_tokens: Any) -> None:
    texts = {"url": url, "model": "" if model is None else model, "key": "" if key is None else key}
    texts["prompt"] = "" if prompt is None else prompt
    for name, value in texts.items():
        if not isinstance(value, str):
            raise VljEdgeError(f"the {name} of an endpoint is a {type(value).__name__}: give a text")
    check_number("timeout", timeout)
    check_whole("most_tokens", most_tokens)


def checked_key(key: str | None) -> str | None:
    """Return a key without white space around it; None for none.

    Raises:
        VljEdgeError: it cannot be sent. The message does not contain it.
    """
    key = (key or "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise VljEdgeError("the key for the words has spaces, line breaks or letters beyond ASCII in it: check it")
    return key or None
