"""The HTTP interface of a node as it listens: where, with which token, and how commands find it."""

from __future__ import annotations

import secrets
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from peerupgrade.http.api import HttpServer
from peerupgrade.http.discovery import publish, withdraw
from peerupgrade.settings import is_loopback, split_address

if TYPE_CHECKING:
    from peerupgrade.runtime.node import Node


async def serve(node: Node, stack: AsyncExitStack) -> str:
    """Listen as the settings say, until the stack is closed; gives the URL, "" if they say no."""
    settings = node.settings
    if not settings.listen:
        return ""
    token = settings.token
    host, _ = split_address(settings.listen)
    if not token and is_loopback(host):
        token = secrets.token_urlsafe(32)  # only this machine's user can read it
    server = HttpServer(node, settings.listen, token)
    url = await server.start()
    stack.push_async_callback(server.stop)
    path = publish(settings.cluster, settings.name, url, token)
    if path is not None:
        stack.callback(withdraw, path)
    node.reached_at(_for_others(url, host))
    return url


def _for_others(url: str, host: str) -> str:
    """Where others reach a node that listens on every address of this machine."""
    everywhere = host in ("0.0.0.0", "::")  # noqa: S104
    return f"http://{socket.getfqdn()}:{urlsplit(url).port}" if everywhere else url
