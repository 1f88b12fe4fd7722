"""Errors that the collector reports to a person or to an HTTP client."""

from collections.abc import Mapping


class CollectorError(Exception):
    """Base of every error with a one-line message meant for a person (exit code 1)."""


class StoreError(CollectorError):
    """The store cannot be opened, written or asked."""


class StateError(CollectorError):
    """The small state (tokens, audit, accepted batches) cannot be used."""


class ProblemError(Exception):
    """An HTTP answer that is an error, sent as RFC 9457 problem details."""

    def __init__(
        self, status: int, title: str, detail: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})
