"""Secrets: values that never show themselves, and files that hold one each, as Docker and Kubernetes provide them."""

import os
import re
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

_LARGEST = 16 * 2**10  # bytes; tokens and addresses are a hundredth of it
_LONG = 6  # characters of a secret that nothing else has by chance


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Text that doesn't show itself: read it with `reveal()`."""

    _text: str

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def hidden_in(self, text: str) -> str:
        """The text without the secret, in any form it may be sent in. A short one is looked for as a word."""
        if len(self._text) < _LONG:
            return re.sub(rf"(?<!\w){re.escape(self._text)}(?!\w)", "***", text)
        found = "|".join(re.escape(form) for form in sorted(_forms(self._text), key=len, reverse=True))
        return re.sub(found, "***", text, flags=re.IGNORECASE)

    def __repr__(self) -> str:
        return "Secret(***)"


def _forms(secret: str) -> set[str]:
    """A secret as it is, as forms and addresses carry it, and as base64 does, wherever in a text that begins."""
    data = secret.encode()
    forms = {secret, quote(secret, safe=""), quote_plus(secret)}
    for before in range(3):
        coded, over = b64encode(b"." * before + data).decode(), (before + len(data)) % 3
        forms.add(coded[(0, 2, 3)[before] : len(coded) - (0, 3, 2)[over]])  # what doesn't depend on its neighbours
    return forms


@dataclass(frozen=True, slots=True)
class PasswordGrant:
    """Credentials of the OAuth2 password grant."""

    client_id: str
    client_secret: Secret
    username: str
    password: Secret


class Unfit(Exception):
    """A file that holds no secret: why, and what to do about it."""


def read(named: str, directory: Path) -> str:
    """The secret in a file, without the line end after it. Raises Unfit, which never says what stands in the file.

    A name that leads nowhere isn't repeated unless it is a full path: somebody may have written the secret itself.
    """
    path = directory / named
    if not Path(named).is_absolute() and not os.path.lexists(path):
        raise Unfit(f"there is no such file in {directory}; give its full path")
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise Unfit(f"there is no file {path}; put the secret there, or name another file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = error.strerror if isinstance(error, OSError) else "it is no path"
        raise Unfit(f"the file {path} can't be read ({why}); let this account read it") from None
    if len(data) > _LARGEST:
        raise Unfit(f"the file {path} is larger than {_LARGEST // 2**10} kB; it must hold the secret alone")
    try:
        text = data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise Unfit(f"the file {path} is no text in UTF-8; write the secret into it as text") from None
    if not text.strip():
        raise Unfit(f"the file {path} is empty; write the secret into it")
    if not text.isprintable():
        raise Unfit(f"the file {path} holds a line break, or what can't be seen; it must be the secret alone")
    return text
