"""Who the subscribers are and which devices they have.

IMSIs are of test network 001-01 (TS 23.003 2.2); MSISDNs begin with 999, which is no country; type
allocation codes look like real ones.
"""

from random import Random
from typing import Final

from probe.simulate.control.connection import Identity
from probe.simulate.network import Network, Subscriber

MODELS: Final = (  # type allocation code, model, how often
    ("35930011", "Aurora 9", 30),
    ("35678113", "Aurora 8", 20),
    ("86491205", "Kestrel X2", 20),
    ("35294010", "Kestrel Mini", 12),
    ("86012306", "Borealis 5G", 10),
    ("35551307", "Meadow Router", 8),
)
OLD_MODEL: Final = ("35180504", "Pioneer 2012")


def identities(network: Network, seed: int, old_device: int) -> list[Identity]:
    """Return the identity of each subscriber; number `old_device` has the old model."""
    random = Random(f"{seed}:identities")
    return [_identity(user, random, user.number == old_device) for user in network.subscribers]


def _identity(subscriber: Subscriber, random: Random, old: bool) -> Identity:
    code, model, _ = random.choices(MODELS, weights=[weight for *_, weight in MODELS])[0]
    serial, version = random.randrange(1_000_000), random.randrange(1, 90)
    if old:
        code, model = OLD_MODEL
    return Identity(
        imsi=subscriber.identity.removeprefix("imsi:"),
        msisdn=f"99970{subscriber.number:07d}",
        imeisv=f"{code}{serial:06d}{version:02d}",
        device_model=model,
        old_device=old,
    )
