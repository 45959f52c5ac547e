"""Rolling upgrades that finish by themselves: one acting version for the whole cluster.

async with Node(Settings(name="a", installed="2.0", store="redis://...")) as node:
    if node.is_active("2.0"):
        ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peerupgrade.core.health import Probing
    from peerupgrade.data.collection import Collection, Record
    from peerupgrade.errors import (
        ConfigError,
        ConflictError,
        DataError,
        PeerUpgradeError,
        RefusedError,
        StaleVersionError,
        SuspendedError,
        UnavailableError,
        VersionError,
    )
    from peerupgrade.runtime.node import Node
    from peerupgrade.runtime.steps import StepContext
    from peerupgrade.runtime.turns import ReadyMade, TurnContext
    from peerupgrade.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "Collection",
    "ConfigError",
    "ConflictError",
    "DataError",
    "Node",
    "PeerUpgradeError",
    "Probing",
    "ReadyMade",
    "Record",
    "RefusedError",
    "Settings",
    "StaleVersionError",
    "StepContext",
    "SuspendedError",
    "TurnContext",
    "UnavailableError",
    "VersionError",
    "__version__",
]

_HOMES = {
    "Collection": "peerupgrade.data.collection",
    "Node": "peerupgrade.runtime.node",
    "Probing": "peerupgrade.core.health",
    "ReadyMade": "peerupgrade.runtime.turns",
    "Record": "peerupgrade.data.collection",
    "Settings": "peerupgrade.settings",
    "StepContext": "peerupgrade.runtime.steps",
    "TurnContext": "peerupgrade.runtime.turns",
}


def __getattr__(name: str) -> Any:
    # Redis and aiohttp are imported when a node is made, not with the package.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "peerupgrade.errors")), name)
