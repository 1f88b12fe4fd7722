"""Services by server name."""

from pathlib import Path

import pytest

from collector.qoe import ServiceMap
from probe.errors import ConfigError

ROOT = Path(__file__).parents[3]
SERVICES = ServiceMap.load(ROOT / "configs/services.yaml")


@pytest.mark.parametrize(
    ("name", "protocol", "expected"),
    [
        ("r3---sn-4g5e6nsz.googlevideo.com", "quic", ("YouTube", "video")),
        ("YouTube.COM.", "tls", ("YouTube", "video")),
        ("notyoutube.com", "tls", (None, "web")),
        ("teams.microsoft.com", "tls", ("Microsoft Teams", "voice")),  # longer than microsoft.com
        ("www.microsoft.com", "tls", ("Microsoft", "web")),
        ("gs2.ww.prod.dl.playstation.net", "http", ("PlayStation Downloads", "download")),
        ("example.org", None, (None, "other")),
        (None, "dns", (None, "dns")),
        (None, "rtp", (None, "voice")),
        (None, None, (None, "other")),
        ("..", "tls", (None, "web")),
    ],
)
def test_the_longest_suffix_wins_and_the_protocol_decides_without_one(
    name: str | None, protocol: str | None, expected: tuple[str | None, str]
) -> None:
    assert SERVICES.classify(name, protocol) == expected


def test_a_suffix_of_two_services_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "services.yaml"
    path.write_text(
        "services:\n  - {name: A, service_class: web, suffixes: [a.com]}\n"
        "  - {name: B, service_class: web, suffixes: [a.com]}\n"
    )
    with pytest.raises(ConfigError, match=r"a\.com belongs to A and to B"):
        ServiceMap.load(path)
