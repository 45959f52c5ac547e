"""Ask one node over HTTP, and turn its refusals into the errors of peerupgrade."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, TypeAlias
from urllib.parse import SplitResult, urlencode, urlsplit

from peerupgrade.errors import (
    ConfigError,
    ExitCode,
    PeerUpgradeError,
    RefusedError,
    UnavailableError,
)

Json: TypeAlias = dict[str, Any]

_TIMEOUT_S = 10.0
_SILENCE_MAX_S = 45.0  # three of the stream's keep-alives


class NotFoundError(PeerUpgradeError):
    """When: nothing matches what was named. State after: unchanged. What to do: name another."""

    exit_code = ExitCode.NOT_FOUND


class NodeError(PeerUpgradeError):
    """When: a node failed. State after: unknown. What to do: read the node's log."""


@dataclass(frozen=True, slots=True)
class Client:
    """One node's HTTP interface.

    Attributes:
        url: may lack the scheme.
        token: "" if there is none.
        cluster: name of the node's cluster, if that is known without asking; else "".
    """

    url: str
    token: str = field(repr=False)
    cluster: str = ""

    def get(self, path: str, **query: int | str) -> Json:
        """Ask.

        Raises:
            UnavailableError: the node, or the store behind it, does not answer.
            PeerUpgradeError: as the node says.
        """
        return self._call("GET", f"{path}?{urlencode(query)}" if query else path, None)

    def post(self, path: str, body: Json, timeout_s: float = _TIMEOUT_S) -> Json:
        """Command.

        Raises:
            PeerUpgradeError: as for `get`.
        """
        return self._call("POST", path, body, timeout_s)

    def stream(self, path: str) -> Iterator[Json]:
        """Server-sent events, until the stream breaks.

        Raises:
            UnavailableError: it broke.
            PeerUpgradeError: as for `get`.
        """
        connection = self._connection(_SILENCE_MAX_S)
        try:
            response = self._response(connection, "GET", path, None)
            while line := response.readline():
                if line.startswith(b"data: "):
                    yield _object(line[len(b"data: ") :], self.url)
        except (OSError, HTTPException) as error:
            raise self._silent(error) from error
        finally:
            connection.close()
        raise UnavailableError(f"the node at {self.url} ended the stream")

    def _call(
        self, method: str, path: str, body: Json | None, timeout_s: float = _TIMEOUT_S
    ) -> Json:
        connection = self._connection(timeout_s)
        try:
            return _object(self._response(connection, method, path, body).read(), self.url)
        except (OSError, HTTPException) as error:
            raise self._silent(error) from error
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> HTTPConnection:
        parts = self._parts()
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        assert parts.hostname is not None
        return kind(parts.hostname, parts.port, timeout=timeout_s)

    def _parts(self) -> SplitResult:
        try:
            parts = urlsplit(self.url if "://" in self.url else f"http://{self.url}")
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # the port is no number
            usable = False
        if not usable:
            raise ConfigError(
                f"server {self.url!r} cannot be used", hint="give http://HOST:PORT of a node"
            )
        return parts

    def _response(
        self, connection: HTTPConnection, method: str, path: str, body: Json | None
    ) -> HTTPResponse:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        text = None if body is None else json.dumps(body)
        connection.request(method, self._parts().path.rstrip("/") + path, text, headers)
        response = connection.getresponse()
        if response.status >= 400:
            raise _error(response.status, _object(response.read(), self.url))
        return response

    def _silent(self, error: Exception) -> UnavailableError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return UnavailableError(
            f"the node at {self.url} does not answer ({reason})",
            hint="is it running, and is this its address?",
        )


def _object(raw: bytes, url: str) -> Json:
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UnavailableError(
            f"{url} does not answer as a node does", hint="is this the address of a node?"
        )
    return value


def _error(status: int, answer: Json) -> PeerUpgradeError:
    message, hint = str(answer.get("error", f"status {status}")), str(answer.get("hint", ""))
    match status:
        case 409:
            return RefusedError(message, rule=str(answer.get("rule", "")), hint=hint)
        case 503:
            return UnavailableError(message, hint=hint)
        case 404:
            return NotFoundError(message, hint=hint)
        case 400 | 401 | 403 | 413:
            return ConfigError(message, hint=hint)
        case _:
            return NodeError(message, hint=hint)
