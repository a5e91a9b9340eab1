"""Service options written as text, as the command line takes them."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

from etl.testing.emulator.service_options import ServiceOptions, list_option_choices

_WORDS = {True: "true", False: "false", None: "null"}


def read_service_options(texts: Iterable[str], **defaults: Any) -> ServiceOptions:
    """Return the options that texts such as `pagesize=capped` and `refused=top,orderby` set.

    Booleans are `true` and `false`, None is `null`; `drift` and `spoilt` can't be set. Raises ValueError.
    """
    given = dict(defaults)
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or name not in _READERS:
            raise ValueError(f"{text!r} is not NAME=VALUE; names are {', '.join(sorted(_READERS))}")
        given[name] = _READERS[name](name, value)
    return ServiceOptions(**given)


def _read_choice(name: str, text: str) -> Any:
    words = {_WORDS.get(value, value): value for value in list_option_choices()[name]}
    if text not in words:
        raise ValueError(f"{name} is one of {', '.join(words)}, not {text!r}")
    return words[text]


def _read_number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{name} is a number, not {text!r}")
    return int(text)


def _read_names(_name: str, text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())


def _read_jobs(_name: str, text: str) -> frozenset[str | int]:
    return frozenset(int(part) if part.isdecimal() else part for part in _read_names(_name, text))


_READERS: dict[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(list_option_choices(), _read_choice),
    **{field.name: _read_number for field in fields(ServiceOptions) if field.type in (int, int | None)},
    "refused": _read_names,
    "unsortable": _read_names,
    "poisoned": _read_jobs,
}
