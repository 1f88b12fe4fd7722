"""Writing the aligned variant of packed encoding rules (ITU-T X.691), as far as S1AP and NGAP here
need it."""

from collections.abc import Sequence

REJECT, IGNORE = 0, 1  # criticality
INITIATING, SUCCESSFUL, UNSUCCESSFUL = 0, 1, 2  # kinds of message

Element = tuple[int, int, bytes]  # identity, criticality, value


class Bits:
    """A string of bits that grows."""

    def __init__(self) -> None:
        self._value = 0
        self._length = 0

    def put(self, value: int, width: int) -> "Bits":
        """Append `value` in `width` bits."""
        assert 0 <= value < 1 << width or width == value == 0
        self._value = self._value << width | value
        self._length += width
        return self

    def align(self) -> "Bits":
        """Fill up to a whole byte."""
        return self.put(0, -self._length % 8)

    def append(self, data: bytes) -> "Bits":
        """Append whole bytes, at a whole byte."""
        self.align()
        return self.put(int.from_bytes(data, "big"), 8 * len(data))

    def constrained(self, value: int, least: int, most: int) -> "Bits":
        """Append a whole number between bounds (X.691 11.5.7)."""
        span, offset = most - least, value - least
        if span < 255:
            return self.put(offset, span.bit_length())
        if span < 1 << 16:
            return self.align().put(offset, 8 if span == 255 else 16)
        size = max(1, (offset.bit_length() + 7) // 8)
        self.constrained(size, 1, (span.bit_length() + 7) // 8)
        return self.align().put(offset, 8 * size)

    def extensible(self, value: int, least: int, most: int) -> "Bits":
        """Append a whole number or enumeration that may be extended and is not."""
        return self.put(0, 1).constrained(value, least, most)

    def open(self, value: bytes) -> "Bits":
        """Append bytes behind their length: an open type, or an unbounded string (X.691 11.9)."""
        length = len(value)
        assert length < 1 << 14
        self.align()
        if length < 128:
            self.put(length, 8)
        else:
            self.put(0x8000 | length, 16)
        return self.append(value)

    def fixed(self, data: bytes) -> "Bits":
        """Append a string of a fixed number of bytes: up to 2 stand where they are (X.691 17)."""
        if len(data) > 2:
            return self.append(data)
        return self.put(int.from_bytes(data, "big"), 8 * len(data))

    def fixed_bits(self, value: int, width: int) -> "Bits":
        """Append a string of a fixed number of bits: up to 16 stand where they are (X.691 16)."""
        if width > 16:
            self.align()
        return self.put(value, width)

    def __bytes__(self) -> bytes:
        """Return whole bytes, one at least: a complete encoding (X.691 11.1)."""
        self.align()
        return self._value.to_bytes(self._length // 8, "big") or b"\0"


def message(kind: int, procedure: int, criticality: int, elements: Sequence[Element]) -> bytes:
    """Return a whole message: kind, procedure and a container of elements."""
    body = Bits().put(0, 1)
    _container(body, elements)
    head = Bits().put(0, 1).put(kind, 2).constrained(procedure, 0, 255).put(criticality, 2)
    return bytes(head.open(bytes(body)))


def container(elements: Sequence[Element]) -> bytes:
    """Return an extensible sequence that is a container of elements only."""
    bits = Bits().put(0, 1)
    _container(bits, elements)
    return bytes(bits)


def single(element: Element) -> Bits:
    """Return an element that stands alone, as lists have them."""
    bits = Bits()
    _element(bits, element)
    return bits


def _container(bits: Bits, elements: Sequence[Element]) -> None:
    bits.constrained(len(elements), 0, 65_535)
    for element in elements:
        _element(bits, element)


def _element(bits: Bits, element: Element) -> None:
    identity, criticality, value = element
    bits.constrained(identity, 0, 65_535).put(criticality, 2).open(value)
