"""One core node on the bench: real store rules, and every effect waits until it is let go."""

from itertools import count
from random import Random

from peerupgrade.core.effects import (
    CallStore,
    Drain,
    Drained,
    HeardOn,
    Memory,
    Operate,
    Remember,
    Remembered,
    Start,
    StoreReplied,
    Switch,
    Switched,
)
from peerupgrade.core.membership import NodeConfig
from peerupgrade.core.node import MastershipConfig, Node
from peerupgrade.core.requests import MemberHeard, Subscribed
from peerupgrade.core.store import StoreState, execute
from tests.core.builders import V

_seeds = count()


class Bench:
    def __init__(
        self, store=None, name="a", installed="1.0", memory=None, gossiping=None, **config
    ):
        self.store = store or StoreState()
        self.identity = "server"
        self.now_s = 100.0
        self.operated = []
        self.effects = []
        self.said = []
        settings = {"lowest": V("0"), "quarantine_s": 0.0, **config}
        self.node = Node(
            NodeConfig(id=name, installed=V(installed), **settings),
            MastershipConfig(),
            memory or Memory(),
            Random(f"{name} {next(_seeds)}"),
            gossiping=gossiping,
        )

    @property
    def membership(self):
        return self.node.membership

    def feed(self, event):
        for effect in self.node.handle(self.now_s, event):
            if isinstance(effect, Operate):
                self.operated.append(str(effect.version) if effect.version else None)
            self.effects.append(effect)
        return self

    def waiting(self, kind):
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def take(self, kind):
        effect = self.waiting(kind)[0]
        self.effects.remove(effect)
        return effect

    def ask(self):
        """Let the oldest request reach the store; the answer is kept back."""
        call = self.take(CallStore)
        reply, heard = execute(self.store, call.request, self.now_ms, self.identity)
        self.said += heard
        return StoreReplied(call.part, call.call, reply, self.now_s)

    @property
    def now_ms(self):
        return int(self.now_s * 1000)

    def save(self):
        return self.feed(Remembered(self.take(Remember).memory))

    def switch(self):
        return self.feed(Switched(self.take(Switch).attempt))

    def settle(self):
        """Let everything go until nothing waits."""
        for _ in range(100):
            if self.waiting(CallStore):
                self.feed(self.ask())
            elif self.waiting(Remember):
                self.save()
            elif self.waiting(Switch):
                self.switch()
            elif self.waiting(Drain):
                self.feed(Drained(self.take(Drain).attempt))
            else:
                return self
        raise AssertionError("it never comes to rest")

    def start(self):
        self.feed(Start())
        self.save()
        return self.feed(HeardOn(Subscribed()))

    def do(self, request):
        """Somebody else asks the store."""
        reply, heard = execute(self.store, request, self.now_ms, self.identity)
        self.said += heard
        return reply

    def hear(self):
        """Let what was published arrive."""
        said, self.said = self.said, []
        for heard in said:
            if not isinstance(heard, MemberHeard):
                self.feed(HeardOn(heard))
        return self
