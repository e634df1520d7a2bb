"""
aiohttp's requests in our form, and our answers in aiohttp's.

Nothing is judged here: what a request must not be is in ``guard``.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.http import HttpVersion
from multidict import CIMultiDict

from broker.api.answers import Answer, PassedAnswer
from broker.api.guard import Incoming


def incoming_of(request: web.BaseRequest, spoken: HttpVersion) -> Incoming:
    """Give a request as the desk takes it; *spoken* is the version that its sender said."""
    line = len(request.method) + len(request.raw_path) + len("  HTTP/1.1\r\n\r\n")
    fields = sum(len(name) + len(value) + len(": \r\n") for name, value in request.raw_headers)
    return Incoming(
        method=request.method,
        target=request.raw_path,
        version=(spoken.major, spoken.minor),
        headers=tuple(request.headers.items()),
        head_size=line + fields,
        has_body=request.body_exists,
        content_length=request.content_length,
    )


def response_of(answer: Answer, *, close: bool) -> web.Response:
    """Give an answer as aiohttp writes it; *close*: the connection ends with it."""
    if isinstance(answer, PassedAnswer):
        response = web.Response(status=answer.status, body=answer.body or None, headers=_passed(answer))
    else:
        response = web.Response(status=answer.status, body=answer.body, headers=answer.all_headers())
    if close:
        response.force_close()
    return response


def stream_of(answer: PassedAnswer, *, close: bool, chunks: bool) -> web.StreamResponse:
    """Give the beginning of an answer whose body follows; *chunks*: its sender understands them."""
    response = web.StreamResponse(status=answer.status, headers=_passed(answer))
    if answer.length is not None:
        response.content_length = answer.length
    elif chunks:
        response.enable_chunked_encoding()
    if close or (answer.length is None and not chunks):
        response.force_close()
    return response


def _passed(answer: PassedAnswer) -> CIMultiDict[str]:
    """Give the fields of a reply that is passed on, each as often as it came; aiohttp would name itself in it."""
    headers = CIMultiDict(answer.fields)
    headers.setdefault("Server", "token-broker")
    return headers
