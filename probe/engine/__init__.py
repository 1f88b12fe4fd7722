"""The packet engine: Rust threads that read captures and hand over batches of session records.

This is the only module that imports the native library.
"""

from probe.engine._native import Engine, EngineError, capture_span, forbid_dumps, schema

__all__ = ["Engine", "EngineError", "capture_span", "forbid_dumps", "schema"]
