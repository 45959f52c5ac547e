"""Who may ask, and how a refusal is worded.

Theory of operation: a node on loopback answers questions of every local program, but a web page in
a local browser is not one. A page cannot forge two headers: `Host` names the page's own site even
when its name was made to point here, and `Origin` says where a POST comes from. Commands need the
token always, and beyond loopback everything does but the two probes.
"""

from __future__ import annotations

import logging
from hmac import compare_digest
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from peerupgrade.errors import (
    PeerUpgradeError,
    RefusedError,
    SuspendedError,
    UnavailableError,
    VersionError,
)
from peerupgrade.settings import is_loopback

PROBES = ("/livez", "/readyz")
_QUESTIONS = ("GET", "HEAD")
_log = logging.getLogger(__name__)


class HttpError(Exception):
    """When: the request itself is wrong. State after: unchanged. What to do: mend the request."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.hint = hint


def make_guard(token: str, loopback: bool) -> Middleware:
    """Refuse who may not ask.

    Args:
        token: that commands need; empty: there are no commands.
        loopback: only this machine can reach the server.
    """

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if loopback:
            _check_host(request)
        _check_origin(request)
        free = request.path in PROBES or (loopback and request.method in _QUESTIONS)
        if not free:
            _check_token(request, token)
        return await handler(request)

    return guard


def _check_host(request: web.Request) -> None:
    host = request.headers.get("Host", "")
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:  # brackets that do not match
        name = None
    if name is None or not is_loopback(name):
        raise HttpError(
            403, f"the request is for host {host!r}, not for this machine", "ask for 127.0.0.1"
        )


def _check_origin(request: web.Request) -> None:
    origin = request.headers.get("Origin")
    if origin is None or request.method in _QUESTIONS:
        return
    if origin.partition("://")[2] != request.headers.get("Host", ""):
        raise HttpError(403, f"the request comes from a web page of {origin!r}", "use a program")


def _check_token(request: web.Request, token: str) -> None:
    if not token:
        raise HttpError(
            403,
            "this node takes no commands, because it has no token",
            "start it with PEERUPGRADE_TOKEN or --token-file",
        )
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    given_bytes = given.strip().encode(errors="surrogateescape")
    if scheme.lower() != "bearer" or not compare_digest(given_bytes, token.encode()):
        raise HttpError(
            401,
            "the token is wrong" if scheme else "a token is needed",
            "set PEERUPGRADE_TOKEN to the node's token, or run as the node's user",
        )


@web.middleware
async def say_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as JSON, with the status that it deserves."""
    try:
        return await handler(request)
    except HttpError as error:
        return _answer(error.status, str(error), error.hint)
    except PeerUpgradeError as error:
        rule = error.rule if isinstance(error, RefusedError) else ""
        return _answer(_status(error), str(error.args[0]), error.hint, rule)
    except web.HTTPException as error:  # of aiohttp itself: no such route, body too large
        return _answer(error.status, f"{request.method} {request.path}: {error.reason}")
    except Exception:  # noqa: BLE001 - the last resort: the client gets an answer, too
        _log.exception("%s %s failed", request.method, request.path)
        return _answer(500, "internal error", "the log of the node has the details")


def _status(error: PeerUpgradeError) -> int:
    match error:
        case RefusedError():
            return 409
        case UnavailableError() | SuspendedError():
            return 503
        case VersionError():  # only the client gives versions
            return 400
        case _:
            return 500


def _answer(status: int, error: str, hint: str = "", rule: str = "") -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    body = {"error": error, "hint": hint, "rule": rule}
    return web.json_response(body, status=status, headers=headers)
