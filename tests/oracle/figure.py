"""What one comparison with tshark found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One kind of figure in one capture: how many tshark has, and which of ours differ."""

    name: str
    compared: int
    off: list[str]
