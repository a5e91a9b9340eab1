"""Known secrets, the forms in which they may be repeated, and the search for them in what was said or stored."""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from functools import cache
from urllib.parse import quote, quote_plus

from etl.config.secrets import PasswordGrant, Secret

TOKEN = "eyT0k3n/of+the-h0use.0123456789.abcdef=="
CLIENT_SECRET = "Cl1ent+S3cret/of&ours"
PASSWORD = "P4ss%word of=ours".replace(" ", "_")
DATABASE_PASSWORD = "Dat4base-Passw0rd-of-ours"
ACCESS_KEY = "Acc3ssKeyOfALink9876543210XYZ"
PERSON = "hidden.person@example.com"
LINK = f"https://files.example/documentmanagement/v1.0/aimsdocument/one/{ACCESS_KEY}"
OUR_OWN = (TOKEN, CLIENT_SECRET, PASSWORD, DATABASE_PASSWORD)
SECRETS = (*OUR_OWN, ACCESS_KEY)
PIECE = 10  # characters of a secret that are too many to be there by chance
GRANT = PasswordGrant("client", Secret(CLIENT_SECRET), PERSON, Secret(PASSWORD))
# What a service, or a gateway before it, may repeat of what it was sent and what it keeps.
ECHOES = {
    "json": json.dumps({"error": {"message": f"no: {TOKEN} {CLIENT_SECRET} {PASSWORD} {LINK} {PERSON}"}}).encode(),
    "words": f"denied Bearer {TOKEN}, client_secret={CLIENT_SECRET} password={PASSWORD}\n{LINK} {PERSON}".encode(),
    "urlencoded": "&".join(f"x={form(s)}" for s in (*SECRETS, LINK) for form in (quote, quote_plus)).encode(),
    "base64": b" ".join(b64encode(b"client"[:n] + s.encode()) for s in (TOKEN, LINK, PASSWORD) for n in range(3)),
    "html": f"<html><body>{TOKEN} {LINK}</body></html>".encode(),
    "a page": json.dumps({"value": [{"jobID": LINK, "modifiedDate": TOKEN}], "error": {"message": LINK}}).encode(),
    "cut": json.dumps({"value": [{"publishLink": LINK, "createdBy": PERSON}]}).encode()[:-9],
    "no rows": json.dumps({"value": LINK}).encode(),
}


def forms(secret: str) -> Iterator[str]:
    """A secret as it is, in an address, in a form, and in base64 wherever it begins."""
    yield from (secret, quote(secret, safe=""), quote_plus(secret))
    for before in range(3):
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(b"." * before + secret.encode()).decode()[4:-4]


@cache
def pieces(secret: str) -> frozenset[str]:
    """All pieces of a secret in all its forms, in small letters."""
    return frozenset(form[at : at + PIECE].lower() for form in forms(secret) for at in range(len(form) - PIECE + 1))


def leaks(text: str, *also: str) -> set[str]:
    """The secrets of which a piece stands in a text, also over the ends of its lines."""
    joined = re.sub(r"\\n|\s|aims360-etl:", "", text).lower()
    said = {joined[at : at + PIECE] for at in range(len(joined) - PIECE + 1)}
    return {secret for secret in (*SECRETS, *also) if not said.isdisjoint(pieces(secret))}
