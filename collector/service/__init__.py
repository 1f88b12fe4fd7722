"""The collector as one process: opens what it needs, mounts every room, drains when told."""
