"""What failure causes mean: for an engineer, for a customer, who owns them, what to do first."""

import json
from enum import StrEnum
from importlib.resources import as_file, files

from pydantic import Field, RootModel, model_validator

from probe.record.enums import FailureCause
from probe.settings import Section, load


class Owner(StrEnum):
    """Who can mend it."""

    RADIO = "radio"
    CORE = "core"
    TRANSPORT = "transport"
    DNS = "dns"
    VOICE = "voice"
    SERVICE = "service"
    DEVICE = "device"
    CARE = "care"
    NOBODY = "nobody"


class CauseText(Section):
    """The texts of one cause; sentences are complete."""

    title: str = Field(min_length=1, max_length=48)
    evidence: str = Field(pattern=r"\.$")
    engineer: str = Field(pattern=r"\.$")
    customer: str = Field(pattern=r"\.$")
    owner: Owner
    next_step: str = Field(pattern=r"\.$")


class CauseTexts(RootModel[dict[FailureCause, CauseText]]):
    """The texts of every cause there is."""

    @model_validator(mode="after")
    def _complete(self) -> "CauseTexts":
        if missing := sorted(set(FailureCause) - self.root.keys()):
            raise ValueError(f"causes are missing: {', '.join(missing)}")
        return self


def load_causes() -> CauseTexts:
    """Return the texts that come with the collector. Raises `probe.errors.ConfigError`."""
    with as_file(files("collector.portal") / "causes.yaml") as path:
        return load(path, CauseTexts)


def causes_json(texts: CauseTexts) -> bytes:
    """Return the texts as JSON, by the names of the causes."""
    return json.dumps(texts.model_dump(mode="json"), separators=(",", ":")).encode()
