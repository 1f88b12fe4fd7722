"""The packet engine: Rust threads that read captures and hand over batches of session records.

This is the only module that imports the native library.
"""

from probe.engine._native import (
    Engine,
    EngineError,
    become_user,
    capture_span,
    drop_capabilities,
    filter_system_calls,
    forbid_dumps,
    schema,
    table_bytes,
)

__all__ = [
    "Engine",
    "EngineError",
    "become_user",
    "capture_span",
    "drop_capabilities",
    "filter_system_calls",
    "forbid_dumps",
    "schema",
    "table_bytes",
]
