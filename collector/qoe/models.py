"""Models: what each class of service asks of the network, in versioned YAML.

The shape is that of draft-ietf-ippm-qoo-10 section 3.2: percentiles of latency with the value for
optimal performance (ROP) and the value at the point of unacceptable performance (CPUP), and a loss
ratio with the same two points. Latency is the round trip between the tap and the client.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, PlainValidator, model_validator

from probe.settings import Duration, Section, load


class ServiceClass(StrEnum):
    """Kinds of service that ask different things of the network."""

    WEB = "web"
    VIDEO = "video"
    VOICE = "voice"
    GAMING = "gaming"
    MESSAGING = "messaging"
    DOWNLOAD = "download"
    DNS = "dns"
    OTHER = "other"


def parse_percent(value: object) -> float:
    """Return the ratio in text like "0.5%"; 0 to 100 %."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)%", value) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError("a ratio is a percentage; allowed: 0% to 100%, as in 0.5%")
    return float(match[1]) / 100


Percent = Annotated[float, PlainValidator(parse_percent)]


class LatencyRequirement(Section):
    """The latency asked for at one percentile."""

    percentile: float = Field(gt=0, lt=100)
    optimal: Duration
    unacceptable: Duration

    @model_validator(mode="after")
    def _ordered(self) -> "LatencyRequirement":
        if self.optimal >= self.unacceptable:
            raise ValueError("optimal must be less than unacceptable")
        return self

    @property
    def p(self) -> Fraction:
        """The percentile as an exact fraction, 95 as 19/20."""
        return Fraction(str(self.percentile)) / 100

    @property
    def bounds_us(self) -> tuple[float, float]:
        """The optimal and the unacceptable latency in microseconds."""
        return self.optimal.total_seconds() * 1e6, self.unacceptable.total_seconds() * 1e6


class LossRequirement(Section):
    """The packet loss asked for."""

    optimal: Percent
    unacceptable: Percent

    @model_validator(mode="after")
    def _ordered(self) -> "LossRequirement":
        if self.optimal >= self.unacceptable:
            raise ValueError("optimal must be less than unacceptable")
        return self


class Requirement(Section):
    """What one class of service asks of the network."""

    latency: tuple[LatencyRequirement, ...] = Field(min_length=1)
    loss: LossRequirement

    @model_validator(mode="after")
    def _ascending(self) -> "Requirement":
        rows = [(r.percentile, r.optimal, r.unacceptable) for r in self.latency]
        for earlier, later in pairwise(rows):
            if earlier[0] >= later[0] or earlier[1] > later[1] or earlier[2] > later[2]:
                raise ValueError("percentiles must ascend, and their latencies with them")
        return self


class ModelFile(Section):
    """The content of a model's file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")
    version: int = Field(ge=1)
    classes: dict[ServiceClass, Requirement]

    @model_validator(mode="after")
    def _complete(self) -> "ModelFile":
        if missing := sorted(set(ServiceClass) - self.classes.keys()):
            raise ValueError(f"classes are missing: {', '.join(missing)}")
        return self


@dataclass(frozen=True)
class Models:
    """The model that scores are computed by, whatever the age of what is scored."""

    file: ModelFile

    @classmethod
    def load(cls, path: Path) -> "Models":
        """Return the model in the file `path`. Raises `probe.errors.ConfigError`."""
        return cls(load(path, ModelFile))

    @property
    def label(self) -> str:
        """The model's name and version as answers tell them, `default@1`."""
        return f"{self.file.name}@{self.file.version}"

    def requirement(self, service_class: str) -> Requirement:
        """Return what `service_class` asks for; a class that is not known asks as `other`."""
        known = service_class in _CLASSES
        return self.file.classes[ServiceClass(service_class) if known else ServiceClass.OTHER]


_CLASSES: Final = frozenset(ServiceClass)
