"""Who may call: the password grant, and the tokens it gave out."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import parse_qs

from etl.testing.emulator.service_options import ExpiresIn


@dataclass(slots=True)
class Credentials:
    """What the service accepts. `token` is the operator's long-lived one; None: there is none.

    `granted` is how the tokens begin that are given for the password.
    """

    token: str | None
    client_id: str
    client_secret: str
    username: str
    password: str
    lifetime: int
    granted: str = "granted-token"


@dataclass(slots=True)
class Tokens:
    """The granted tokens and when they run out."""

    accepted: Credentials
    granted: dict[str, datetime] = field(default_factory=dict)
    made: int = 0

    def grant(self, form: bytes, now: datetime) -> dict[str, object] | None:
        """The answer to a token request (a urlencoded form), or None if it is refused."""
        given = {name: values[-1] for name, values in parse_qs(form.decode("utf-8", "replace")).items()}
        wanted = {
            "client_id": self.accepted.client_id,
            "client_secret": self.accepted.client_secret,
            "username": self.accepted.username,
            "password": self.accepted.password,
            "grant_type": "password",
        }
        if any(given.get(name) != value for name, value in wanted.items()):
            return None
        self.made += 1
        token = f"{self.accepted.granted}-{self.made}"
        self.granted[token] = now + timedelta(seconds=self.accepted.lifetime)
        return {"access_token": token, "token_type": "bearer", "expires_in": self.accepted.lifetime}

    def admits(self, authorization: str, now: datetime) -> bool:
        """Whether this Authorization header holds."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return False
        return token == self.accepted.token or self.granted.get(token, now) > now


def has_token(authorization: str) -> bool:
    """Return whether an Authorization header has a token, valid or not."""
    scheme, _, token = authorization.partition(" ")
    return scheme.lower() == "bearer" and bool(token.strip())


def write_expiry(granted: dict[str, object], form: ExpiresIn, lifetime: int, now: datetime) -> dict[str, object]:
    """Return the answer to a token request with its `expires_in` in this form. `lifetime` is in seconds."""
    if form == "absent":
        return {name: value for name, value in granted.items() if name != "expires_in"}
    moment = int(now.timestamp()) + lifetime
    return {**granted, "expires_in": {"seconds": lifetime, "moment": moment, "text": str(lifetime)}[form]}
