"""Pseudonyms: the same for every way to write an identity, and never a guess."""

import hashlib
import hmac

import pytest
from pydantic import ValidationError

from collector.identity.pseudonym import SubscriberIdentity, subscriber_id

KEY = b"site key"


def _expected(canonical: str) -> str:
    return hmac.new(KEY, canonical.encode(), hashlib.sha256).digest()[:16].hex()


@pytest.mark.parametrize(
    ("identity", "canonical"),
    [
        ({"imsi": "001010000000001"}, "imsi:001010000000001"),
        ({"msisdn": "+49 30 1234-567"}, "msisdn:49301234567"),
        ({"msisdn": "49301234567"}, "msisdn:49301234567"),
        ({"ip": "10.0.0.1"}, "ip:10.0.0.1"),
        ({"ip": "2001:DB8:0:1:aaaa::1"}, "ip:2001:db8:0:1::/64"),
    ],
)
def test_an_identity_is_hashed_in_its_canonical_form(
    identity: dict[str, str], canonical: str
) -> None:
    assert subscriber_id(KEY, SubscriberIdentity.model_validate(identity)) == _expected(canonical)


@pytest.mark.parametrize(
    "identity",
    [
        {},
        {"imsi": None},
        {"imsi": "001010000000001", "ip": "10.0.0.1"},
        {"imsi": "00101000000000A"},
        {"imsi": "0" * 16},
        {"imsi": 1010000000001},
        {"msisdn": "030 1234"},
        {"msisdn": "+0"},
        {"ip": "10.0.0.0/8"},
        {"ip": "host"},
        {"name": "Alice"},
    ],
)
def test_what_is_not_exactly_one_identity_is_refused_without_repeating_it(
    identity: dict[str, object],
) -> None:
    with pytest.raises(ValidationError) as caught:
        SubscriberIdentity.model_validate(identity)
    for value in identity.values():
        assert value is None or str(value) not in str(caught.value)
