"""One simulation, from its settings to the three files."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress

from probe.simulate.arguments import SimulationSettings
from probe.simulate.control.report import ControlTruth
from probe.simulate.control.run import begin
from probe.simulate.control.views import Tapped, tapped
from probe.simulate.events import Timeline
from probe.simulate.gtpu import VIEWS
from probe.simulate.network import Network, build_network
from probe.simulate.report import write_map, write_truth
from probe.simulate.tap import Tap
from probe.simulate.traffic import SECOND, Traffic

_STEP_US: Final = SECOND  # progress is shown so often, in simulated time
_QUIET_US: Final = 15 * SECOND  # no errands start so shortly before the end, so that most end


def simulate(settings: SimulationSettings, *, show_progress: bool = False) -> str:
    """Write capture, truth and map; return one line about them. Raises `OSError`."""
    network = build_network(
        settings.seed,
        settings.cells,
        settings.subscribers,
        settings.bad_cell,
        settings.bad_subscriber,
        rat=settings.rat if settings.has_control else None,
        congested_cell=settings.congested_cell if settings.has_control else 0,
    )
    tap, control = _write_capture(settings, network, show_progress)
    rows = [session.row(settings.start_ns) for session in tap.sessions]
    truth_path = _beside(settings.output, ".truth.json")
    totals = write_truth(truth_path, network, rows, _made(settings), control)
    summary = (
        f"{settings.output}: {tap.packets} packets, {totals['sessions']} sessions, "
        f"{totals['failures']} failures, {settings.cells} cells, {settings.subscribers} subscribers"
    )
    if control is not None:
        return f"{summary}, {control.moves} handovers"
    write_map(_beside(settings.output, ".map.csv"), network, settings.view)
    return summary


def _write_capture(
    settings: SimulationSettings, network: Network, show_progress: bool
) -> tuple[Tap, ControlTruth | None]:
    timeline, control = Timeline(), None
    shown = _tapped(settings, network)
    view = shown.view if shown else VIEWS[settings.view]()
    length, skip_us = settings.snap_length, settings.skip_us
    with Tap(settings.output, view, settings.start_ns, length, skip_us) as tap:
        pause_us, bad_server = settings.mean_pause_us, settings.bad_server
        traffic = Traffic(timeline, tap, network, settings.seed, pause_us, bad_server=bad_server)
        if shown:
            control = begin(settings, network, shown, timeline=timeline, tap=tap, traffic=traffic)
        quiet = min(_QUIET_US, settings.duration_us // 4)
        traffic.schedule(settings.duration_us - quiet)
        for time_us in _steps(settings.duration_us, show_progress):
            timeline.run(time_us)
    return tap, control


def _tapped(settings: SimulationSettings, network: Network) -> Tapped | None:
    if not settings.has_control:
        return None
    return tapped(settings.view, network.cells, settings.seed, settings.start_ns)


def _steps(duration_us: int, show_progress: bool) -> Iterator[int]:
    """Yield the times to run to, and show how far they have gone."""
    console = Console(stderr=True)
    shown = Progress(console=console, transient=True) if show_progress else None
    with shown or contextlib.nullcontext():
        task = shown.add_task("simulating", total=duration_us) if shown else None
        for time_us in [*range(_STEP_US, duration_us, _STEP_US), duration_us]:
            yield time_us
            if shown is not None and task is not None:
                shown.update(task, completed=time_us)


def _beside(output: Path, suffix: str) -> Path:
    """Return the file beside `output`: demo.pcap gives demo.truth.json."""
    return output.with_name(output.name.removesuffix(".pcap") + suffix)


def _made(settings: SimulationSettings) -> dict[str, object]:
    added = {"skip_us": settings.skip_us, "bad_server": settings.bad_server}
    return {
        "seed": settings.seed,
        "view": settings.view,
        "start_time": settings.start_ns,
        "duration_us": settings.duration_us,
        "snap_length": settings.snap_length,
        **(added if settings.has_control else {}),
    }
