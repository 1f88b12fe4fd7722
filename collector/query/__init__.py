"""Questions over HTTP: network, cells, subscribers, services, failures, probes."""

from collector.query.api import operations
from collector.query.openapi import document

__all__ = ["document", "operations"]
