"""Texts of 3GPP identities as configuration files and maps write them: those of docs/record.md."""

from typing import Annotated, Final

from probe.settings import text_like

PLMN: Final = r"[0-9]{3}-[0-9]{2,3}"

Name = Annotated[
    str,
    text_like(
        r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}",
        "up to 128 letters, digits, dots, colons, hyphens and underscores",
    ),
]
CellId = Annotated[
    str,
    text_like(
        rf"{PLMN}-([0-9A-F]{{7}}|[0-9A-F]{{9}}|[0-9A-F]{{4}}-[0-9A-F]{{4}})",
        "001-01-0019B01 (ECGI), 001-01-0019B0101 (NCGI), 001-01-0A0B-0C0D (CGI), upper case",
    ),
]
TrackingArea = Annotated[
    str, text_like(rf"{PLMN}-([0-9A-F]{{4}}|[0-9A-F]{{6}})", "001-01-0001, 001-01-000001")
]
TypeAllocationCode = Annotated[
    str, text_like(r"[0-9]{8}", "the first 8 digits of an IMEI, in quotes in YAML: '35209900'")
]
