"""The spool: keeps sealed batches on disk until the collector has acknowledged them."""

from probe.spool.spool import GapReason, Spool
from probe.spool.survey import PendingBatch, SpoolSurvey, survey

__all__ = ["GapReason", "PendingBatch", "Spool", "SpoolSurvey", "survey"]
