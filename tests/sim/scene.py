"""A stage on which a test tells what happens, and every event is judged by the invariants."""

from dataclasses import replace

from peerupgrade.core.effects import InstalledChanged
from peerupgrade.core.ledger import whole_ledger
from peerupgrade.core.requests import Commit
from peerupgrade.core.store import snapshot
from peerupgrade.core.versions import parse_version
from peerupgrade.sim.ghost import Ghost, forgot, judge
from peerupgrade.sim.stage import Event, Stage, StageConfig

V = parse_version
LOWEST = {"1.0": "1.0", "2.0": "1.0", "3.0": "2.0"}
PROMPT = frozenset(("heard", "drained", "read", "reply", "saved"))


def asks(name, kind):
    """Requests of a node, of one type."""
    return lambda host, asked: host.name == name and isinstance(asked.call.request, kind)


def commits(step):
    """Commits of one step, by whomever."""
    return lambda _, asked: (
        isinstance(asked.call.request, Commit) and asked.call.request.step == step
    )


class Scene:
    """Nodes of one cluster that has formed; "a" is its master."""

    def __init__(self, names="abc", installed="1.0", prompt=PROMPT, **config):
        self.stage = Stage(StageConfig(hosts=len(names), prompt=prompt, **config))
        for name in names:
            self.stage.add(name, V("1.0"), V("1.0"))
            self.stage.start(name)
        self.stage.live(8.0)
        self.stage.replicate()
        self.stage.take()
        self.ghost = Ghost.of(self.stage)
        for name in names if installed != "1.0" else ():
            self.upgrade(name, installed)

    # --- what is ----------------------------------------------------------------------------------

    @property
    def record(self):
        return self.stage.store.state.record

    @property
    def acting(self):
        return str(self.record.acting)

    @property
    def members(self):
        return self.stage.store.state.members

    def node(self, name):
        return self.stage.hosts[name].node

    def operates(self, name):
        version = self.node(name).membership.operating
        return str(version) if version else None

    def awaited(self):
        """What `why` names: code and subject."""
        now_ms = self.stage.store_now_ms
        view = snapshot(self.stage.store.state, now_ms, self.stage.store.identity)
        return [(str(blocker.code), blocker.subject) for blocker in whole_ledger(view, now_ms)]

    # --- what happens -----------------------------------------------------------------------------

    def happen(self, event):
        self.stage.do(event)
        return self.judge()

    def judge(self):
        happened = self.stage.take()
        self.ghost = judge(self.stage, self.ghost, happened)
        return happened

    def run(self, seconds=0.0, without=lambda host, asked: False, but=()):
        """Everything happens in its time, except requests that are held back, and `but` kinds."""
        for passed in range(round(seconds / 0.1) + 1):
            if passed:
                self.stage.pass_time(0.1)
            for _ in range(1000):
                event = self._next(without, but)
                if event is None:
                    break
                self.happen(event)
            else:
                raise AssertionError("it never comes to rest")

    def _next(self, without, but):
        for event in self.stage.possible():
            host = self.stage.hosts[event.host]
            if event.timer is not None and host.timers[event.timer].at_s > self.stage.clock_s:
                continue
            if event.kind == "store" and without(host, host.asked[event.which]):
                continue
            if event.kind not in but and (event.kind, event.host) not in but:
                return event
        return None

    def let(self, what):
        """A request that was held back reaches the store; gives the store's answer."""
        for host in list(self.stage.hosts.values()):
            for which, asked in enumerate(host.asked):
                if what(host, asked):
                    return self.happen(Event("store", host.name, which)).served[0].reply
        raise AssertionError("nobody asks that")

    def waits(self, what):
        """True while such a request is on its way."""
        hosts = self.stage.hosts.values()
        return any(what(host, asked) for host in hosts for asked in host.asked)

    def operate(self, request):
        """An operator's request."""
        reply = self.stage.operate(request)
        self.judge()
        return reply

    def feed(self, name, event):
        self.stage.feed(name, event)
        self.judge()

    def start(self, name, installed=None):
        """Start it, new or again, with a version."""
        if installed is not None and name not in self.stage.hosts:
            self.stage.add(name, V(installed), V(LOWEST[installed]))
        elif installed is not None:
            self.stage.install(name, V(installed), V(LOWEST[installed]))
        self.stage.start(name)
        self.judge()

    def upgrade(self, name, version):
        """Stop it, install, start."""
        self.stage.kill(name)
        self.start(name, version)

    def forget(self):
        """Another server process takes over, with what the copy had."""
        self.stage.fail_over()
        self.ghost = forgot(self.stage, self.ghost)
        self.judge()

    def slow(self, *kinds):
        """From here on these are events of their own."""
        self.stage.config = replace(self.stage.config, prompt=self.stage.config.prompt - {*kinds})

    def in_place(self, name, version):
        """Other software under the running process."""
        self.stage.install(name, V(version), V(LOWEST[version]))
        self.feed(name, InstalledChanged(V(version), V(LOWEST[version])))
