"""The portal: one page over the HTTP interface, with all that it needs served from here."""

from collector.portal.endpoint import operations

__all__ = ["operations"]
