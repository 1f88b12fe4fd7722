"""Pseudonyms of subscribers: from an identity in the clear to the id that records carry.

subscriber_id is the first 16 bytes, in hex, of HMAC-SHA-256(site key, identity). The probe computes
the same before anything touches its disk; here it serves the look-up by customer care alone.
"""

import hashlib
import hmac
import ipaddress
import re
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_PSEUDONYM_BYTES: Final = 16


class SubscriberIdentity(BaseModel):
    """Exactly one identity of a subscriber. Its text must never be logged or stored."""

    # hide_input_in_errors: a validation error would otherwise quote the identity.
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    imsi: str | None = Field(default=None, pattern=r"^[0-9]{6,15}$")
    msisdn: str | None = None
    ip: str | None = None

    @field_validator("msisdn")
    @classmethod
    def _e164_digits(cls, value: str | None) -> str | None:
        """Return the digits of an E.164 number, written with or without plus and separators."""
        if value is None:
            return None
        digits = re.sub(r"[ ()./-]", "", value.removeprefix("+"))
        if not re.fullmatch(r"[1-9][0-9]{2,14}", digits):
            raise ValueError("must be an international number of 3 to 15 digits, as in +49301234")
        return digits

    @field_validator("ip")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            raise ValueError("must be an IPv4 or IPv6 address") from None
        if isinstance(address, ipaddress.IPv4Address):
            return str(address)
        return str(ipaddress.IPv6Network((int(address), 64), strict=False))

    @model_validator(mode="after")
    def _exactly_one(self) -> "SubscriberIdentity":
        if len(self.model_fields_set) != 1 or None in self.model_dump(exclude_unset=True).values():
            raise ValueError("name exactly one of imsi, msisdn and ip")
        return self

    @property
    def kind(self) -> str:
        """Return which identity it is: imsi, msisdn or ip."""
        return next(iter(self.model_fields_set))

    def canonical(self) -> str:
        """Return the text that is hashed: `imsi:001010000000001`, `ip:2001:db8::/64`."""
        return f"{self.kind}:{getattr(self, self.kind)}"


def subscriber_id(site_key: bytes, identity: SubscriberIdentity) -> str:
    """Return the pseudonym of `identity`, 32 hex digits."""
    digest = hmac.new(site_key, identity.canonical().encode(), hashlib.sha256).digest()
    return digest[:_PSEUDONYM_BYTES].hex()
