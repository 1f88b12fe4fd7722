"""Migration 1: every table and view, as the column table and the list of aggregates give them."""

from collector.store.tables import Layout, table_statements


def statements(layout: Layout) -> list[str]:
    """Return the statements that make the first schema."""
    return table_statements(layout)
