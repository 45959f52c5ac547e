"""One real node in a process of its own, commanded by lines of JSON.

    {"do": "installed", "installed": "2.0"}    other software
    {"do": "die", "step": "raised", "when": "before"}    SIGKILL itself at that commit
    {"do": "go on"}    with the step before a version, which "before" in the settings names
    {"do": "stop", "leave": true}

It prints one line of JSON for each thing that happens.
"""

import asyncio
import json
import os
import signal
import sys

from peerupgrade import Node, Settings
from peerupgrade.adapters.redis_store import RedisStore
from peerupgrade.core.requests import Commit
from peerupgrade.errors import PeerUpgradeError


def say(**what):
    print(json.dumps(what), flush=True)


class Death:
    """SIGKILL at one commit: before it is sent, or after it was answered."""

    def __init__(self):
        self.step = self.when = ""
        call = RedisStore.call

        async def watched(store, request):
            fatal = isinstance(request, Commit) and request.step == self.step
            if fatal and self.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            reply = await call(store, request)
            if fatal and self.when == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return reply

        RedisStore.call = watched


async def obey(node, death, going_on, stopped):
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        match command["do"]:
            case "installed":
                node.installed_changed(command["installed"])
            case "die":
                death.step, death.when = command["step"], command["when"]
            case "go on":
                going_on.set()
            case "resign":
                say(resigned=await node.resign())
            case "status":
                status = node.status()
                say(
                    status={
                        "acting": node.acting,
                        "operating": node.operating,
                        "epoch": status.epoch,
                        "state": str(status.state),
                        "reason": status.reason,
                        "revision": status.record.revision if status.record else 0,
                    }
                )
            case "why":
                ledger = await node.ledger()
                say(why=[str(b.code) for b in ledger.blockers], live=ledger.live)
            case "stop":
                await node.stop(leave=command.get("leave"))
                say(stopped=True)
                stopped.set()
                return
    stopped.set()


async def main():
    given = json.loads(os.environ["WORKER_SETTINGS"])
    wait, before = given.pop("wait", False), given.pop("before", "")
    settings = Settings(**given)
    death = Death()
    node = Node(settings)

    @node.on_acting
    def _(version, previous):
        say(operates=version, previous=previous)

    going_on, stopped = asyncio.Event(), asyncio.Event()
    if before:

        @node.before(before)
        async def wait_to_be_told(_context):
            say(before=before)
            await going_on.wait()

    if wait:
        say(waiting=True)
        await asyncio.to_thread(sys.stdin.readline)
    await node.start()
    obeying = asyncio.create_task(obey(node, death, going_on, stopped))
    try:
        await node.operating_now()
        say(ready=node.operating)
        ended = asyncio.create_task(node.ended())
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait((ended, waiting), return_when=asyncio.FIRST_COMPLETED)
        if ended.done() and not stopped.is_set():
            raise ended.result()
    except PeerUpgradeError as error:
        say(error=str(error), rule=getattr(error, "rule", ""), kind=type(error).__name__)
        await node.stop()
        os._exit(error.exit_code)
    await obeying
    os._exit(0)


asyncio.run(main())
