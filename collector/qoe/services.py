"""Services: which service a session belongs to, by the name of its server."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, PlainValidator, model_validator

from collector.qoe.models import ServiceClass
from probe.settings import Section, load

_CACHED_NAMES = 65_536  # pairs of server name and protocol whose answer is remembered


def parse_suffix(value: object) -> str:
    """Return a domain suffix in lower case; it stands for itself and every name below it."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", value):
        raise ValueError("must be a domain in lower case without dots at its ends")
    return value


Suffix = Annotated[str, PlainValidator(parse_suffix)]


class Service(Section):
    """One service and the domains that are its own."""

    name: str = Field(min_length=1, max_length=64)
    service_class: ServiceClass
    suffixes: tuple[Suffix, ...] = Field(min_length=1)


class ServicesFile(Section):
    """The content of a services file."""

    services: tuple[Service, ...] = ()
    protocols: dict[str, ServiceClass] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _each_suffix_once(self) -> "ServicesFile":
        seen: dict[str, str] = {}
        for service in self.services:
            for suffix in service.suffixes:
                if suffix in seen:
                    raise ValueError(f"{suffix} belongs to {seen[suffix]} and to {service.name}")
                seen[suffix] = service.name
        return self


class ServiceMap:
    """Names the service and the service class of a session; the longest suffix wins."""

    def __init__(self, file: ServicesFile) -> None:
        self._by_suffix = {
            suffix: service for service in file.services for suffix in service.suffixes
        }
        self._protocols: Mapping[str, ServiceClass] = file.protocols
        self.classify = lru_cache(_CACHED_NAMES)(self._classify)

    @classmethod
    def load(cls, path: Path) -> "ServiceMap":
        """Return the map in the file `path`. Raises `probe.errors.ConfigError`."""
        return cls(load(path, ServicesFile))

    def _classify(
        self, server_name: str | None, app_protocol: str | None
    ) -> tuple[str | None, str]:
        """Return (service, service class); without a known name the protocol gives the class."""
        service = self._find(server_name) if server_name else None
        if service is not None:
            return service.name, str(service.service_class)
        return None, str(self._protocols.get(app_protocol or "", ServiceClass.OTHER))

    def _find(self, server_name: str) -> Service | None:
        name = server_name.lower().rstrip(".")
        while name:
            if name in self._by_suffix:
                return self._by_suffix[name]
            name = name.partition(".")[2]
        return None
