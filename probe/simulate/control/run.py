"""Traffic under a control plane: what `simulate` sets up for a view that shows control messages."""

from random import Random

from probe.simulate.arguments import SimulationSettings
from probe.simulate.control.core import Core
from probe.simulate.control.mobility import Mobility, Plan
from probe.simulate.control.population import identities
from probe.simulate.control.report import ControlTruth
from probe.simulate.control.signalling import Signalling
from probe.simulate.control.views import GATEWAYS, Tapped
from probe.simulate.events import Timeline
from probe.simulate.network import Network
from probe.simulate.tap import Tap
from probe.simulate.traffic import Traffic


def begin(
    settings: SimulationSettings,
    network: Network,
    tapped: Tapped,
    *,
    timeline: Timeline,
    tap: Tap,
    traffic: Traffic,
) -> ControlTruth:
    """Put the control plane on the timeline and return what gathers its labels."""
    people = identities(network, settings.seed, settings.old_device)
    for device, identity in zip(traffic.devices, people, strict=True):
        device.online, device.old = False, identity.old_device
        device.cells = network.cells
    signalling = Signalling(timeline, tap, tapped.interfaces)
    random = Random(f"{settings.seed}:control")
    core = Core(timeline, tap, signalling, GATEWAYS, people, tunnels=tapped.tunnels, random=random)
    timeline.at(0, signalling.greet)
    mobility = Mobility(timeline, core, traffic.devices, network.cells, random)
    plan = Plan(settings.duration_us, settings.handovers, settings.restarts)
    mobility.schedule(plan, GATEWAYS)
    return ControlTruth(core, signalling, people, network.cells, skip_us=settings.skip_us)
