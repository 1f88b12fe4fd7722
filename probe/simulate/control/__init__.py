"""The control plane of the simulated network: sessions, moves, and the messages that tell it."""
