"""Who there is in a fleet: how busy each account is, where it lives, how it signs in, how far its clock is off. Pure.

A real fleet is skewed: most accounts are small and quiet, few are large.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Literal, get_args

from etl.testing.emulator.oauth import Credentials

Region = Literal["west", "east"]
Mood = Literal["well", "hangs", "throttles", "refuses", "fails"]
REGIONS: tuple[Region, ...] = get_args(Region)
MOODS: tuple[Mood, ...] = get_args(Mood)
"""How an account is served.

`hangs`: a request is accepted and not answered for minutes; `throttles`: 429 for ever; `refuses`: the token and the
password are wrong; `fails`: one in three calls fails, each in one of the ways of `faults`.
"""

MEDIAN_JOBS = 30
SPREAD = 1.5
MOST_JOBS = 20_000
GRANT_SHARE = 0.1
"""The part of accounts that sign in with a password; the others have a long-lived token."""
LIFETIME = 3600


@dataclass(frozen=True, slots=True)
class Tenant:
    """An account: `jobs` a month; `rate` is how many requests a second it may make; `latency` seconds an answer takes.

    `credentials` has a token, or is a password grant.
    """

    name: str
    region: Region
    credentials: Credentials
    jobs: int
    seed: int
    skew: timedelta
    rate: float
    latency: float
    mood: Mood = "well"

    @property
    def has_token(self) -> bool:
        """Whether it signs in by a long-lived token."""
        return self.credentials.token is not None


def jobs_a_month(rng: Random) -> int:
    """How many jobs an account makes a month: lognormal, half of all below 30, one in a hundred above 1,000.

    Of 2,000 accounts the largest has some 5,000; all together make some 190,000 a month, 4 a minute.
    """
    return min(MOST_JOBS, round(rng.lognormvariate(math.log(MEDIAN_JOBS), SPREAD)))


def tenants(
    count: int,
    *,
    seed: int = 0,
    moods: Mapping[Mood, int] | None = None,
    skew: timedelta = timedelta(seconds=2),
    rate: float = 50.0,
    latency: float = 0.0,
) -> list[Tenant]:
    """A fleet; the same seed, the same one. The first accounts have the `moods`, so many each, the others are well.

    `skew`: no clock is off by more. ValueError where there are more moods than accounts.
    """
    feeling = [mood for mood, number in (moods or {}).items() for _ in range(number)]
    if len(feeling) > count:
        raise ValueError(f"{len(feeling)} moods for {count} accounts")
    feeling += ["well"] * (count - len(feeling))
    return [_tenant(place, Random(f"{seed}/{place}"), feeling[place], skew, rate, latency) for place in range(count)]


def _tenant(place: int, rng: Random, mood: Mood, skew: timedelta, rate: float, latency: float) -> Tenant:
    name = f"a{place + 1:05}"
    token = None if rng.random() < GRANT_SHARE else f"token-{name}-{rng.getrandbits(64):016x}"
    signs_in = Credentials(
        token,
        f"client-{name}",
        f"secret-{rng.getrandbits(64):016x}",
        f"{name}@example.com",
        f"password-{name}",
        LIFETIME,
        f"granted-{name}",
    )
    return Tenant(
        name=name,
        region=REGIONS[place % len(REGIONS)],
        credentials=signs_in,
        jobs=jobs_a_month(rng),
        seed=rng.getrandbits(32),
        skew=skew * rng.uniform(-1, 1),
        rate=rate,
        latency=latency,
        mood=mood,
    )
