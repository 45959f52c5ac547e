"""What goes wrong, and what operators do meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from peerupgrade.core.effects import InstalledChanged, Resign, SetAway, Stop
from peerupgrade.core.requests import Exclude, ReleaseHold, SetHold
from peerupgrade.sim.world import Machine, World


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault of a seed's plan, with chance of its own: leaving one out shifts no other."""

    number: int
    kind: str
    at_s: float
    seed: int


@dataclass(slots=True)
class Faults:
    """A swarm: each seed draws which kinds it uses and how often.

    `keep` names the strikes that happen; None for all.
    """

    world: World
    rng: Random
    keep: frozenset[int] | None = None
    fired: Counter[str] = field(default_factory=Counter)
    struck: list[Strike] = field(default_factory=list)
    active: bool = True

    def plan(self, until_s: float) -> None:
        """Draw the kinds of this seed, and when they strike."""
        chosen = [kind for kind in sorted(self.kinds) if self.rng.random() < 0.45]
        strikes = [
            (kind, self.rng.uniform(1.0, until_s), self.rng.getrandbits(64))
            for kind in chosen
            for _ in range(self.rng.randint(1, 5))
        ]
        for number, (kind, at_s, seed) in enumerate(strikes):
            if self.keep is None or number in self.keep:
                strike = Strike(number, kind, at_s, seed)
                self.world.agenda.at(at_s, partial(self._strike, strike))

    def _strike(self, strike: Strike) -> None:
        if not self.active:
            return
        self.rng = Random(strike.seed)
        self.world.tell(f"fault: {strike.kind}")
        if self.kinds[strike.kind]():
            self.fired[strike.kind] += 1
            self.struck.append(strike)

    @property
    def kinds(self) -> dict[str, Callable[[], bool]]:
        """Every kind of fault, by its name; each answers whether it could strike."""
        return {
            "node killed": self._kill,
            "node killed, disk lost": self._kill_and_wipe,
            "node paused": self._pause,
            "node cut from the store": self._cut,
            "pub/sub messages eaten": self._eat,
            "messages lost": self._lose_messages,
            "messages duplicated": self._duplicate,
            "messages delayed": self._slow,
            "store killed, restarted": self._restart_store,
            "store forgot its last writes": self._forget,
            "store wiped": self._wipe,
            "replica away": self._replica_away,
            "lock server lost": self._lock_server,
            "clock jumped": self._jump,
            "server's clock jumped": self._server_jump,
            "callback failed": self._callback,
            "installed newer": self._upgrade,
            "installed older": self._downgrade,
            "replaced in place": self._sighup,
            "left and came back": self._leave,
            "marked away": self._away,
            "master resigned": self._resign,
            "hold": self._hold,
            "excluded": self._exclude,
            "node joined": self._join,
            "second node of the name": self._impostor,
        }

    # --- helpers ----------------------------------------------------------------------------------

    def _some(self, alive: bool = True) -> Machine | None:
        found = [m for m in self.world.machines.values() if (m.node is not None) is alive]
        return self.rng.choice(found) if found else None

    def _later(self, low_s: float, high_s: float, action: Callable[[], None]) -> None:
        self.world.agenda.after(self.rng.uniform(low_s, high_s), action)

    def _revive(self, machine: Machine) -> None:
        if machine.node is None and machine in self.world.machines.values():
            self.world.start(machine)

    # --- nodes ------------------------------------------------------------------------------------

    def _kill(self) -> bool:
        machine = self._some()
        if machine is None:
            return False
        self.world.kill(machine)
        self._later(0.05, 8.0, lambda: self._revive(machine))
        return True

    def _kill_and_wipe(self) -> bool:
        machine = self._some()
        if machine is None:
            return False
        self.world.kill(machine)
        machine.disk, machine.disk_lost = type(machine.disk)(), True
        self._later(0.05, 8.0, lambda: self._revive(machine))
        return True

    def _pause(self) -> bool:
        machine = self._some()
        if machine is None:
            return False
        self.world.pause(machine, self.rng.choice((0.2, 1.0, 4.0, 12.0)))
        return True

    def _cut(self) -> bool:
        machine = self._some()
        if machine is None:
            return False
        machine.store_cut = True

        def heal() -> None:
            machine.store_cut = False
            machine.cut_until_s = self.world.agenda.now_s
            self.world.resubscribe(machine)

        self._later(0.2, 10.0, heal)
        return True

    def _eat(self) -> bool:
        machine = self._some()
        if machine is None:
            return False
        machine.bus_cut = True

        def heal() -> None:
            machine.bus_cut = False
            self.world.resubscribe(machine)

        self._later(0.1, 3.0, heal)
        return True

    def _jump(self) -> bool:
        machine = self._some()
        if machine is None:
            return False
        machine.jump_s += self.rng.choice((0.5, 3.0, 60.0))
        return True

    def _callback(self) -> bool:
        machine = self._some()
        if machine is None:
            return False
        machine.callback_fails = self.rng.randint(1, 3)
        return True

    # --- network ----------------------------------------------------------------------------------

    def _lose_messages(self) -> bool:
        self.world.loss = self.rng.choice((0.05, 0.2))
        self._later(0.5, 4.0, lambda: setattr(self.world, "loss", 0.0))
        return True

    def _duplicate(self) -> bool:
        self.world.duplication = 0.2
        self._later(0.5, 4.0, lambda: setattr(self.world, "duplication", 0.0))
        return True

    def _slow(self) -> bool:
        self.world.delay_s = (0.001, self.rng.choice((0.05, 0.4)))
        self._later(0.5, 4.0, lambda: setattr(self.world, "delay_s", (0.0005, 0.003)))
        return True

    # --- servers ----------------------------------------------------------------------------------

    def _after_store(self) -> None:
        for machine in self.world.machines.values():
            if machine.node is not None:
                self.world.resubscribe(machine)

    def _restart_store(self) -> bool:
        store = self.world.store
        if not store.up:
            return False
        store.up = False

        def back() -> None:
            store.restart()
            self._after_store()

        self._later(0.1, 6.0, back)
        return True

    def _forget(self) -> bool:
        store = self.world.store
        if not store.up:
            return False
        store.up = False

        def back() -> None:
            store.lose()
            self.world.observe(self.world, "lost", None)
            self._after_store()

        self._later(0.1, 3.0, back)
        return True

    def _wipe(self) -> bool:
        self.world.store.wipe()
        self.world.observe(self.world, "lost", None)
        return True

    def _replica_away(self) -> bool:
        self.world.store.replica_up = False
        self._later(0.5, 5.0, lambda: setattr(self.world.store, "replica_up", True))
        return True

    def _lock_server(self) -> bool:
        if not self.world.locks:
            return False
        server = self.rng.choice(self.world.locks)
        server.up = False
        if self.rng.random() < 0.5:
            server.state = type(server.state)(epoch=server.state.epoch)
        self._later(0.5, 6.0, lambda: setattr(server, "up", True))
        return True

    def _server_jump(self) -> bool:
        self.world.store.skew_ms += self.rng.choice((200, 5000))
        return True

    # --- software ---------------------------------------------------------------------------------

    def _upgrade(self) -> bool:
        machine = self._some()
        if machine is None or machine.version + 1 >= len(self.world.versions):
            return False
        self.world.kill(machine)
        machine.version += 1
        self._later(0.05, 1.0, lambda: self._revive(machine))
        return True

    def _downgrade(self) -> bool:
        machine = self._some()
        if machine is None or machine.version == 0:
            return False
        # A careful operator: away first, and never below what this node remembers.
        remembered = machine.disk.record
        lower = self.world.versions[machine.version - 1]
        if remembered and remembered.acting and lower < remembered.acting:
            return False
        self.world.feed(machine, Stop(leave=False))
        self._later(1.5, 3.0, lambda: self._downgraded(machine))
        return True

    def _downgraded(self, machine: Machine) -> None:
        if machine.node is None and machine.version > 0:
            machine.version -= 1
            self._revive(machine)

    def _sighup(self) -> bool:
        machine = self._some()
        if machine is None or machine.version + 1 >= len(self.world.versions):
            return False
        machine.version += 1
        installed = self.world.versions[machine.version]
        self.world.feed(machine, InstalledChanged(installed, self.world.lowest(machine.version)))
        return True

    def _leave(self) -> bool:
        machine = self._some()
        if machine is None:
            return False
        self.world.feed(machine, Stop(leave=True))
        self._later(1.2, 6.0, lambda: self._revive(machine))
        return True

    def _away(self) -> bool:
        machine = self._some()
        if machine is None:
            return False
        self.world.feed(machine, SetAway(True))
        self._later(0.2, 4.0, lambda: self.world.feed(machine, SetAway(False)))
        return True

    def _resign(self) -> bool:
        for machine in self.world.machines.values():
            if machine.node is not None and machine.node.mastership.holding:
                self.world.feed(machine, Resign())
                return True
        return False

    def _hold(self) -> bool:
        if not self.world.store.up:
            return False
        self.world.do(SetHold("operator", "looking"), "operator")
        self._later(0.5, 5.0, self._release)
        return True

    def _release(self) -> None:
        if self.world.store.up:
            self.world.do(ReleaseHold("operator"), "operator")

    def _exclude(self) -> bool:
        """An honest operator: only a node that is stopped, and which stays so for a while."""
        machine = self._some(alive=False)
        if machine is None or not self.world.store.up or self.world.runs(machine.name):
            return False
        member = self.world.store.state.members.get(machine.name)
        if member is None:
            return False
        request = Exclude(machine.name, "operator", "gone", True, member.incarnation)
        self.world.do(request, "operator")
        return True

    def _join(self) -> bool:
        name = f"j{len(self.world.machines)}"
        newest = max(machine.version for machine in self.world.machines.values())
        version = self.rng.randint(0, newest)
        machine = self.world.add(name, version)
        self.world.start(machine)
        return True

    def _impostor(self) -> bool:
        victim = self._some()
        if victim is None:
            return False
        name = victim.name
        impostor = Machine(name, self.rng.randint(0, victim.version))
        self.world.machines[f"{name}*{len(self.world.machines)}"] = impostor
        self.world.start(impostor)
        return True
