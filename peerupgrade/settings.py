"""All settings of a node, in one frozen dataclass.

Precedence, lowest first: the defaults here, a TOML file, environment variables (``PEERUPGRADE_``
and the name in capitals), flags. Units are in the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from math import inf

from peerupgrade.errors import ConfigError

_NAME_CHARS_MAX = 128
_TTL_S_MIN = 0.6
_SHOWN_CHARS_MAX = 128
_LABELS_MAX = 32
_LOCK_SERVERS = (1, 3, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a node is set up.

    Attributes:
        name: of this node; unique in its cluster.
        cluster: name of the cluster; several may share one store.
        installed: installed version, PEP 440.
        lowest_supported: oldest version whose behaviour and data it can still serve; `0`: any
            older one.
        store: URL of the store; empty: the node starts a server of its own.
        lock_servers: URLs of further lock servers; with the store they are 1, 3 or 5.
        state_dir: where the node remembers; empty: `~/.local/state/peerupgrade/CLUSTER/NAME`.
        bootstrap_expect: nodes that must be there before a new cluster acts.
        lease_s: 0 for policy `freeze` (goes on through any outage), or the length of the lease
            of policy `suspend`.
        guard_max_s: the longest guarded operation; a lease on the store's side is longer by it.
        lock_ttl_s: how long a master's lease lasts.
        quarantine_s: how long a store that may have lost writes is not trusted; at least as long
            as the lease of any node, also where this one has none.
        min_replicas: replicas that must confirm a decision; 0: one if there are any.
        conversion_pace: `adaptive` to what the application's own commands feel, or `full`.
        start_timeout_s: how long a start waits for a store that does not answer; 0: for ever.
        on_stop: what an orderly end means: `leave` the cluster, or `stay` a member that is away.
        stop_timeout_s: how long an orderly end may take.
        listen: `host:port` of the HTTP interface; port 0: any free one; empty: none.
        token: secret that mutating calls need, and all calls when not on loopback.
        address: how others reach this node; shown to them. Empty: the HTTP address.
        gossip: `host:port` where nodes talk to each other, by UDP and TCP; port 0: any free one;
            empty: nowhere.
        advertise: `host:port` by which other nodes reach `gossip`; port 0: the one of `gossip`.
        join: `host:port` of nodes that gossip already; a name may have several addresses.
        keyring: file with the keys of gossip; needed when not on loopback.
        zone, labels: shown to others; the label `upgrade` = `last` lets a rollout take this node
            down after all others.
    """

    name: str
    installed: str
    cluster: str = "default"
    lowest_supported: str = "0"
    store: str = field(default="", repr=False)
    lock_servers: tuple[str, ...] = field(default=(), repr=False)
    state_dir: str = ""
    bootstrap_expect: int = 1
    lease_s: float = 0.0
    guard_max_s: float = 1.0
    lock_ttl_s: float = 3.0
    quarantine_s: float = 5.0
    min_replicas: int = 0
    conversion_pace: str = "adaptive"
    start_timeout_s: float = 30.0
    on_stop: str = "leave"
    stop_timeout_s: float = 10.0
    listen: str = "127.0.0.1:0"
    token: str = field(default="", repr=False)
    address: str = ""
    gossip: str = "127.0.0.1:0"
    advertise: str = ""
    join: tuple[str, ...] = ()
    keyring: str = ""
    zone: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: names the setting, its value and what it may be.
        """
        for what in ("name", "cluster"):
            check_name(what, getattr(self, what))
        if 1 + len(self.lock_servers) not in _LOCK_SERVERS:
            raise ConfigError(
                f"lock_servers has {len(self.lock_servers)} entries",
                hint="with the store there must be 1, 3 or 5: give none, 2 or 4 more",
            )
        if len({self.store, *self.lock_servers}) <= len(self.lock_servers):
            raise ConfigError(
                "one server is named twice in store and lock_servers",
                hint="give independent servers: one that votes twice protects from nothing",
            )
        _check_at_least("lock_ttl_s", self.lock_ttl_s, _TTL_S_MIN)
        for what in ("lease_s", "guard_max_s", "quarantine_s", "start_timeout_s", "stop_timeout_s"):
            _check_at_least(what, getattr(self, what), 0)
        _check_at_least("bootstrap_expect", self.bootstrap_expect, 1)
        _check_at_least("min_replicas", self.min_replicas, 0)
        if self.on_stop not in ("leave", "stay"):
            raise ConfigError(f"on_stop is {self.on_stop!r}", hint="say 'leave' or 'stay'")
        if self.conversion_pace not in ("adaptive", "full"):
            raise ConfigError(
                f"conversion_pace is {self.conversion_pace!r}", hint="say 'adaptive' or 'full'"
            )
        if self.listen:
            host, _ = split_address(self.listen)
            if not self.token and not is_loopback(host):
                raise ConfigError(
                    f"listen is {self.listen}, which others can reach, and there is no token",
                    hint="set PEERUPGRADE_TOKEN, or listen on 127.0.0.1",
                )
        self._check_gossip()
        _check_shown(self.zone, self.labels)

    def _check_gossip(self) -> None:
        if not self.gossip:
            for what in ("advertise", "join", "keyring"):
                if getattr(self, what):
                    raise ConfigError(
                        f"{what} is given, and gossip is empty",
                        hint=f"give gossip HOST:PORT, or no {what}",
                    )
            return
        host, _ = split_address(self.gossip)
        if not self.keyring and not is_loopback(host):
            raise ConfigError(
                f"gossip is {self.gossip}, which others can reach, and there is no keyring",
                hint="make one with `peerupgrade keyring add --new --keyring FILE` and give"
                " keyring FILE, or gossip on 127.0.0.1",
            )
        if self.advertise:
            split_address(self.advertise)
        elif is_everywhere(host):
            raise ConfigError(
                f"gossip is {self.gossip}, which is no address that others could reach",
                hint="say in advertise how they reach this node",
            )
        for entry in self.join:
            _, port = split_address(entry)
            if not port:
                raise ConfigError(f"join has {entry!r}", hint="give the port of its gossip")


def check_name(what: str, value: str) -> None:
    """Refuse a name that cannot be part of a key.

    Raises:
        ConfigError: names the setting, its value and what it may be.
    """
    plain = value[:1].isalnum() and all(char.isalnum() or char in "-_." for char in value)
    if not plain or len(value) > _NAME_CHARS_MAX:
        raise ConfigError(
            f"{what} {value!r} cannot be used",
            hint="use letters and digits, and after the first of them '-', '_' and '.', at most"
            f" {_NAME_CHARS_MAX} characters",
        )


def _check_at_least(what: str, value: float, least: float) -> None:
    if not least <= value < inf:  # nan is neither
        raise ConfigError(f"{what} is {value}", hint=f"give at least {least}")


def _check_shown(zone: str, labels: Mapping[str, str]) -> None:
    """Every packet carries them, and nodes refuse packets that have more."""
    texts = [zone, *labels, *labels.values()]
    if len(labels) > _LABELS_MAX or any(len(text) > _SHOWN_CHARS_MAX for text in texts):
        raise ConfigError(
            "zone and labels are too long",
            hint=f"give at most {_LABELS_MAX} labels, of {_SHOWN_CHARS_MAX} characters each",
        )
    if any(text != text.encode(errors="replace").decode() for text in texts):
        raise ConfigError("zone and labels are not all text", hint="give them in UTF-8")


def split_address(address: str) -> tuple[str, int]:
    """`host:port` as two.

    Raises:
        ConfigError: it has another form.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"address {address!r} cannot be used", hint="give HOST:PORT")
    return host, int(port)


def is_everywhere(host: str) -> bool:
    """True if it stands for every address of this machine."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """True if only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
