"""A laboratory: two network namespaces joined by a relay that delays, drops and mirrors by plan.

Real programs run over it, and what the probe makes of the mirror is compared with what the relay
did. The kernel's own impairments (netem) are not needed, and the relay's log is the truth.

    plan = Plan((Rule(clients=client_address(7), **path(client_ms=20, server_ms=5)),))
    with Laboratory(plan, tmp_path) as lab:
        lab.server.popen(["nginx", ...])
        lab.client.run(["curl", "--interface", client_address(7), ...])
    replay(lab.capture)
    lab.log.truth()

Every address of 10.1.0.0/16 and fd01::/64 is the client's, every one of 10.2.0.0/16 and fd02::/64
the server's, so each flow can have addresses of its own by which rules and records are told apart.
"""

from typing import Any

from tests.system.laboratory.network import (
    DEVICE,
    MTU,
    Laboratory,
    Namespace,
    client_address,
    server_address,
    unavailable,
)
from tests.system.laboratory.plan import (
    IcmpError,
    Link,
    Outage,
    Plan,
    Reset,
    Rule,
    Trigger,
    path,
)
from tests.system.laboratory.truth import (
    FlowKey,
    FlowTruth,
    Line,
    Log,
    LossTruth,
    RttTruth,
)

__all__ = [
    "DEVICE",
    "MTU",
    "FlowKey",
    "FlowTruth",
    "IcmpError",
    "Laboratory",
    "Line",
    "Link",
    "Log",
    "LossTruth",
    "Namespace",
    "Outage",
    "Plan",
    "Reset",
    "RttTruth",
    "Rule",
    "Trigger",
    "client_address",
    "needs_laboratory",
    "path",
    "server_address",
    "unavailable",
]


def __getattr__(name: str) -> Any:
    """Make the mark `needs_laboratory` when a test asks for it: to know, it makes a namespace."""
    if name != "needs_laboratory":
        raise AttributeError(name)
    import pytest

    return pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
