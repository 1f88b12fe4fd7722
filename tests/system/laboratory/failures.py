"""All failure scenarios in one laboratory, and what the probe says of them.

    python -m tests.system.laboratory.failures [--only TEXT] [--keep DIRECTORY] [--judge DIRECTORY]

prints each scenario with what was expected and found, and the confusion matrix of the causes.
"""

import argparse
import dataclasses
import json
import logging
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import replay
from tests.system.laboratory import Laboratory, Link, Plan, Rule
from tests.system.laboratory.certificates import make_certificates
from tests.system.laboratory.confusion import Confusion
from tests.system.laboratory.network import enter
from tests.system.laboratory.scenarios import SCENARIOS, Scenario, Verdict
from tests.system.laboratory.servers import start_nginx
from tests.system.laboratory.site import NAME, Site, routes

FIRST_SITE = 11
CLIENT_MS, SERVER_MS = 15.0, 10.0
"""One way, between the tap and each end, of every link that a scenario gives no delay."""
APART_S = 0.08
"""Between the starts of two scenarios, so that a small machine keeps its pace."""
LONGEST_S = 18.0
"""No client acts for longer; those that still wait then, wait for what never comes."""
SILENCE_S = 22.0
"""Goes on after the last action, so that a probe sees what never comes."""
CLIENTS = ("10.1.0.0/16", "fd01::/64")

Session = list[dict[str, Any]]
"""The records of one session, in order."""


# --------------------------------------------------------------------------------- the laboratory


def run_laboratory(scenarios: Iterable[Scenario], directory: Path) -> list[Site]:
    """Act all scenarios at once; `tap.pcap` and `probe.yaml` in the directory are the outcome."""
    scenarios = tuple(scenarios)
    for name in ("quic", "asyncio"):  # refused connections are meant here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    secrets = make_certificates(directory / "secrets", NAME)
    (secrets / "large").write_bytes(bytes(1_000_000))
    numbered = list(enumerate(scenarios, FIRST_SITE))
    laboratory = Laboratory(_plan(numbered), directory)
    sites = [Site(number, laboratory, secrets) for number, _ in numbered]
    with laboratory:
        try:
            _connect_sites(laboratory, sites)
            start_nginx(laboratory, sites, secrets)
            for site, scenario in zip(sites, scenarios, strict=True):
                for server in scenario.servers:
                    server(site)
            _act(list(zip(sites, scenarios, strict=True)))
            laboratory.stop()
        finally:
            for site in sites:
                site.close()
    _configure_probe(directory, sites)
    return sites


def _plan(numbered: list[tuple[int, Scenario]]) -> Plan:
    rules = []
    for number, scenario in numbered:
        site = Site(number, None, Path())  # type: ignore[arg-type]
        for version, some in ((4, scenario.network), (6, scenario.network_v6)):
            for rule in (*some, Rule()):
                rules.append(_far(dataclasses.replace(rule, clients=site.client(version))))
    return Plan(tuple(rules), seed=1)


def _far(rule: Rule) -> Rule:
    """Give each link of a rule that has no delay the usual one."""

    def link(name: str, delay_ms: float) -> Link:
        given: Link = getattr(rule, name)
        return given if given.delay_ms else dataclasses.replace(given, delay_ms=delay_ms)

    delays = {"client": CLIENT_MS, "server": SERVER_MS}
    names = [(side, f"{side}_{way}") for side in delays for way in ("up", "down")]
    return dataclasses.replace(rule, **{name: link(name, delays[side]) for side, name in names})


def _connect_sites(laboratory: Laboratory, sites: list[Site]) -> None:
    words = ["ip", "-n", laboratory.client.name, "-batch", "-"]
    commands = "\n".join(routes(sites)) + "\n"
    subprocess.run(words, input=commands.encode(), check=True, timeout=30)


def _act(cast: list[tuple[Site, Scenario]]) -> None:
    """Start the clients one after the other, let them act, and then keep silent."""
    threads = []
    for site, scenario in cast:
        thread = threading.Thread(target=_in_client_namespace, args=[site, scenario], daemon=True)
        thread.start()
        threads.append(thread)
        time.sleep(APART_S)
    deadline = time.monotonic() + LONGEST_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    time.sleep(SILENCE_S)


def _in_client_namespace(site: Site, scenario: Scenario) -> None:
    enter(site.laboratory.client.name)
    try:
        scenario.client(site)
    except Exception as error:  # of a client that is wrong itself: the scenario did not happen
        site.note(f"BROKEN: {type(error).__name__} {error}")


def _configure_probe(directory: Path, sites: list[Site]) -> None:
    """Tell the probe, as an operator does, which addresses are whose."""
    rules = [
        {
            "client_prefix": f"{site.client(version)}/{bits}",
            "subscriber": f"imsi:00101{site.number:010}",
        }
        for site in sites
        for version, bits in ((4, 32), (6, 128))
    ]
    (directory / "key").write_text("a key of the laboratory")
    (directory / "key").chmod(0o600)
    probe = {
        "probe_id": "laboratory",
        "capture": [{"file": "tap.pcap", "capture_point": "tap"}],
        "site_key_file": "key",
        "client_address": "full",
        "attribution": {"subscriber_prefixes": list(CLIENTS), "map": rules},
        "spool": {"path": "spool"},
        "collector": {"urls": ["http://127.0.0.1:8642"], "token_file": "key"},
    }
    (directory / "probe.yaml").write_text(json.dumps(probe, indent=1))  # JSON is YAML


# ----------------------------------------------------------------------------------- the judgement


@dataclass(frozen=True)
class Judgement:
    """One verdict, and what the probe said of the sessions that it is about."""

    scenario: str
    expected: Verdict
    found: str
    stage: str | None
    side: str | None
    evidence: tuple[str, ...]
    sessions: int
    """How many sessions it is about, and of how many the probe said something else."""
    wrong: int
    notes: str

    @property
    def cause_is_right(self) -> bool:
        return self.found == self.expected.cause

    @property
    def is_right(self) -> bool:
        return (
            self.cause_is_right
            and self.stage == self.expected.stage
            and self.side in self.expected.sides
        )


def judge(scenarios: Iterable[Scenario], directory: Path, notes: list[str]) -> list[Judgement]:
    """Replay the laboratory's capture through the probe and compare."""
    done = replay("--config", directory / "probe.yaml", directory / "tap.pcap")
    if done.code != 0:
        raise RuntimeError(f"the probe failed: {done.error}")
    by_client = _sessions(done.rows)
    judgements: list[Judgement] = []
    for number, (scenario, note) in enumerate(zip(scenarios, notes, strict=True), FIRST_SITE):
        site = Site(number, None, Path())  # type: ignore[arg-type]
        sessions = [*by_client[site.client()], *by_client[site.client(6)]]
        judgements += _judge(scenario, sessions, note)
    return judgements


def _sessions(rows: list[dict[str, Any]]) -> dict[str, list[Session]]:
    """Return the sessions of each client. An ICMP error is no session of anybody's."""
    records = defaultdict(list)
    for row in rows:
        if row["transport"] in {"tcp", "udp"}:
            records[row["session_id"]].append(row)
    by_client = defaultdict(list)
    for session in records.values():
        session.sort(key=lambda row: row["interval_index"])
        by_client[session[0]["client_ip"]].append(session)
    return by_client


def _judge(scenario: Scenario, sessions: list[Session], note: str) -> list[Judgement]:
    rest = list(sessions)
    judgements = []
    for verdict in scenario.verdicts:
        ours = [session for session in rest if _is_about(verdict, session[0])]
        rest = [session for session in rest if session not in ours]
        judgements.append(_compare(scenario.name, verdict, ours, note))
    if rest:
        judgements.append(_compare(f"{scenario.name}: the rest", Verdict("none"), rest, note))
    return judgements


def _is_about(verdict: Verdict, record: dict[str, Any]) -> bool:
    ports = verdict.port if isinstance(verdict.port, range) else (verdict.port,)
    version = 6 if ":" in record["server_ip"] else 4
    return (
        record["transport"] == verdict.transport
        and record["server_port"] in ports
        and verdict.version in {None, version}
    )


def _compare(name: str, expected: Verdict, sessions: list[Session], note: str) -> Judgement:
    """Judge several sessions by the first of which the probe said something else."""
    said = [_said(session, expected) for session in sessions]
    wrong = [one for one in said if one[0] != expected.cause]
    if expected.spares and len(wrong) < len(said):
        wrong = [one for one in wrong if one[0] not in {"none", "unknown"}]
    right = [one for one in said if one[0] == expected.cause]
    cause, stage, side, evidence = (wrong or right or [("missing", None, None, ())])[0]
    return Judgement(name, expected, cause, stage, side, evidence, len(sessions), len(wrong), note)


def _said(
    session: Session, expected: Verdict
) -> tuple[str, str | None, str | None, tuple[str, ...]]:
    """Return cause, stage, side and evidence that the session's records give."""
    decided = [row for row in session if row["outcome"] is not None]
    if len(decided) != 1:
        return f"said {len(decided)} times", None, None, ()
    row = decided[0]
    if row["outcome"] == "failed":
        evidence = tuple(row["evidence"] or ())
        return row["failure_cause"], row["failure_stage"], row["failure_side"], evidence
    if expected.scan and not any("scan" in row["flags"] for row in session):
        return "not flagged", None, None, ()
    evidence = tuple(row["evidence"] or ())
    unknown = row["outcome"] == "unknown" and not expected.excused
    return ("unknown" if unknown else "none"), None, None, evidence


# -------------------------------------------------------------------------------------- the report


def confusion(judgements: list[Judgement]) -> Confusion:
    return Confusion((one.expected.cause, one.found) for one in judgements)


def report(judgements: list[Judgement]) -> str:
    """Return the scenarios, the confusion matrix by cause and the figures, as text."""
    matrix = confusion(judgements)
    lines = ["   scenario | expected -> found | evidence | what the client met"]
    for one in judgements:
        mark = " " if one.is_right else ("~" if one.cause_is_right else "X")
        wanted = (
            f"{one.expected.cause}/{one.expected.stage}/{'|'.join(map(str, one.expected.sides))}"
        )
        many = f" ({one.wrong} of {one.sessions})" if one.sessions != 1 else ""
        found = f"{one.found}/{one.stage}/{one.side}{many}"
        lines.append(
            f" {mark} {one.scenario} | {wanted} -> {found} | {','.join(one.evidence)} |"
            f" {' '.join(one.notes.split())}"
        )
    lines += ["", *matrix.table()]
    right = sum(one.cause_is_right for one in judgements)
    whole = sum(one.is_right for one in judgements)
    lines += [
        "",
        f"{right} of {len(judgements)} causes right, {whole} with stage and side too;"
        f" macro-F1 {matrix.macro_f1():.3f}",
    ]
    return "\n".join(lines)


def measure(
    directory: Path, chosen: Callable[[Scenario], bool] = lambda _: True
) -> list[Judgement]:
    """Run the laboratory in the directory and judge what the probe makes of it."""
    scenarios = [scenario for scenario in SCENARIOS if chosen(scenario)]
    sites = run_laboratory(scenarios, directory)
    notes = ["; ".join(site.notes) for site in sites]
    listed = [[scenario.name, note] for scenario, note in zip(scenarios, notes, strict=True)]
    (directory / "scenarios.json").write_text(json.dumps(listed, indent=1))
    return judge(scenarios, directory, notes)


def judge_again(directory: Path) -> list[Judgement]:
    """Judge a laboratory's capture that was kept, by the probe and the verdicts of today."""
    listed = json.loads((directory / "scenarios.json").read_text())
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    scenarios = [by_name[name] for name, _ in listed]
    return judge(scenarios, directory, [note for _, note in listed])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="scenarios whose name holds this text")
    parser.add_argument("--keep", type=Path, help="where to leave capture, log and configuration")
    parser.add_argument("--judge", type=Path, help="judge anew what --keep left, without a run")
    given = parser.parse_args()
    if given.judge is not None:
        print(report(judge_again(given.judge)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = given.keep or Path(scratch)
        print(report(measure(directory, lambda scenario: given.only in scenario.name)))


if __name__ == "__main__":
    main()
