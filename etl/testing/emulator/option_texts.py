"""Service options written as text, as the command line takes them."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, get_args

from etl.testing.emulator.drift import Drift, DriftForm
from etl.testing.emulator.service_options import ServiceOptions, list_option_choices
from etl.testing.emulator.spoilt_rows import Spoilt, SpoiltForm

_WORDS = {True: "true", False: "false", None: "null"}


def read_service_options(texts: Iterable[str], **defaults: Any) -> ServiceOptions:
    """Return the options that texts such as `pagesize=capped` and `refused=top,orderby` set.

    Booleans are `true` and `false`, None is `null`. Raises ValueError.
    """
    given = dict(defaults)
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign:
            raise ValueError(f"{text!r} is not NAME=VALUE")
        if name not in _READERS:
            raise ValueError(f"there is no {name!r}; names are {', '.join(sorted(_READERS))}")
        given[name] = _READERS[name](name, value)
    return ServiceOptions(**given)


def list_service_options() -> str:
    """Say what there is to set, with its values, a line each."""
    values = {name: "|".join(map(str, choices)) for name, choices in _list_words().items()}
    forms = {
        **dict.fromkeys(_READERS, "N"),
        **values,
        "refused": "NAME,… of options, operators and properties",
        "unsortable": "PROPERTY,…",
        "ignored": "NAME,… of options",
        "poisoned": "ID,…",
        "drift": f"PROPERTY:FORM[:SHARE],… with a FORM of {'|'.join(get_args(DriftForm))}",
        "spoilt": f"FORM:SHARE[:TIMES],… with a FORM of {'|'.join(get_args(SpoiltForm))}",
    }
    return "\n".join(f"{name}={forms[name]}" for name in sorted(forms))


def _list_words() -> dict[str, list[str]]:
    return {
        name: [str(_WORDS.get(value, value)) for value in choices] for name, choices in list_option_choices().items()
    }


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


def _read_drift(_name: str, text: str) -> tuple[Drift, ...]:
    read = []
    for part in text.split(","):
        name, form, share = (*part.split(":"), "1")[:3] if part.count(":") in (1, 2) else ("", "", "")
        if not name:
            raise ValueError(f"drift is PROPERTY:FORM or PROPERTY:FORM:SHARE, not {part!r}")
        read.append(Drift(name, form, _read_share(share)))  # type: ignore[arg-type]  # it is checked later
    return tuple(read)


def _read_spoilt(_name: str, text: str) -> tuple[Spoilt, ...]:
    read = []
    for part in text.split(","):
        form, share, times = (*part.split(":"), "")[:3] if part.count(":") in (1, 2) else ("", "", "")
        if not form or (times and not times.isdecimal()):
            raise ValueError(f"spoilt is FORM:SHARE or FORM:SHARE:TIMES, not {part!r}")
        read.append(Spoilt(form, (), _read_share(share), int(times) if times else None))  # type: ignore[arg-type]
    return tuple(read)


def _read_share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"a share is a number from 0 to 1, not {text!r}") from None


_READERS: dict[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(list_option_choices(), _read_choice),
    **{field.name: _read_number for field in fields(ServiceOptions) if field.type in (int, int | None)},
    "refused": _read_names,
    "unsortable": _read_names,
    "ignored": _read_names,
    "poisoned": _read_jobs,
    "drift": _read_drift,
    "spoilt": _read_spoilt,
}
