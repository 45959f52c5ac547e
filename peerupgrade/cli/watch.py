"""What happens, as it happens: `watch`."""

from __future__ import annotations

import json
import time
from typing import NoReturn

from peerupgrade.cli.client import Json
from peerupgrade.cli.show import plain, print_message
from peerupgrade.cli.target import DEFAULT, Target, connect
from peerupgrade.errors import UnavailableError

RETRY_S = 0.5


def watch(*, target: Target = DEFAULT) -> NoReturn:
    """Follow what happens, line by line, until interrupted.

    With -o json, one object a line. It connects again whenever the node has gone;
    each connection begins with where things stand. What gossip hears of other
    nodes is told as "node joined", "node suspected", "node recovered", "node
    failed", "node left", "node restarted" and "node installed" (other software).

    For example:

        peerupgrade watch
        peerupgrade watch -o json | jq -r .event
    """
    connected = ever = False
    while True:
        try:
            for event in connect(target).stream("/v1/events"):
                connected = ever = True
                _print_event(event, target.as_json)
        except UnavailableError as error:
            if not ever:
                raise
            if connected:
                print_message(f"{error}; trying again")
            connected = False
        time.sleep(RETRY_S)


def _print_event(event: Json, as_json: bool) -> None:
    if as_json:
        print(json.dumps(event), flush=True)
        return
    detail = f": {plain(event['detail'])}" if event["detail"] else ""
    print(
        f"{event['at']} {plain(event['node'])} {plain(event['event'])}{detail}"
        f" (revision {event['revision']})",
        flush=True,
    )
