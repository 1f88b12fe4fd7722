"""The places for a tap that shows control messages: which interfaces, and what carries packets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from probe.simulate.control.connection import Gateway
from probe.simulate.control.frames import Framer
from probe.simulate.control.n4 import N4
from probe.simulate.control.ngap import Ngap
from probe.simulate.control.radius import Radius
from probe.simulate.control.s1ap import S1ap
from probe.simulate.control.s11 import S11
from probe.simulate.control.signalling import Interface
from probe.simulate.control.tunnels import Tunnels
from probe.simulate.gtpu import BearerView, SgiView, View
from probe.simulate.network import Cell

GATEWAYS: Final = tuple(
    Gateway(number, f"10.30.0.{number}", f"10.30.1.{number}") for number in (1, 2)
)


@dataclass(frozen=True)
class Tapped:
    """What a tap shows."""

    view: View
    interfaces: Sequence[Interface]
    tunnels: Tunnels | None


def tapped(name: str, cells: Sequence[Cell], seed: int, start_ns: int) -> Tapped:
    """Return what is shown at the places that `name` joins by "+", the user plane first."""
    user_plane, *control = name.split("+")
    framer = Framer()
    makers: dict[str, Callable[[], Interface]] = {
        "s11": lambda: S11(GATEWAYS, framer),
        "s1ap": lambda: S1ap(cells, framer),
        "n4": lambda: N4(GATEWAYS, framer, start_ns),
        "n2": lambda: Ngap(cells, framer),
        "radius": lambda: Radius(GATEWAYS, framer, Random(f"{seed}:radius"), start_ns),
    }
    interfaces = [makers[place]() for place in control]
    if user_plane == "sgi":
        return Tapped(SgiView(), interfaces, None)
    tunnels = Tunnels(user_plane, cells, GATEWAYS, framer)
    return Tapped(BearerView(), [*interfaces, tunnels], tunnels)
