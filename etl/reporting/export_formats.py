"""An answer as a table for people, or as CSV, JSON or Parquet for programs.

Values are written as they are. A text that begins with = + - or @ is a formula to a spreadsheet that opens a CSV by
itself: whoever imports it as text, or takes Parquet or JSON, is not concerned.
"""

import csv
import io
import json
import math
import re
from typing import Any

import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from etl.errors import ConfigError
from etl.text import shown

_NULL = "-"
_LEGIBLE = 16  # characters


def as_csv(frame: pd.DataFrame) -> bytes:
    """RFC 4180 in UTF-8: a header, CRLF, times in ISO 8601 (Z: UTC), true and false, nothing for what isn't known."""
    written = io.StringIO(newline="")
    lines = csv.writer(written)
    lines.writerow(frame.columns)
    columns = [[str(v).lower() if isinstance(v, bool) else v for v in values] for values in _columns(frame)]
    lines.writerows(zip(*columns, strict=True))
    return written.getvalue().encode()


def as_json(frame: pd.DataFrame) -> bytes:
    """A list of objects, one a row and line; times in ISO 8601 (Z: UTC), null for what isn't known."""
    names = list(frame.columns)
    rows = (dict(zip(names, row, strict=True)) for row in zip(*_columns(frame), strict=True))
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return f"[\n{lines}\n]\n".encode() if lines else b"[]\n"


def as_parquet(frame: pd.DataFrame) -> bytes:
    """Parquet with the same types; days are dates. Raises ConfigError where pyarrow isn't installed."""
    try:
        import pyarrow as pa
    except ImportError:
        raise ConfigError('Parquet needs pyarrow: pip install "aims360-etl[report]"') from None
    if not frame.columns.is_unique:
        raise ConfigError("Parquet has one column of a name: name them apart, with AS")
    kinds: dict[str, Any] = {name: pd.ArrowDtype(pa.date32()) for name in frame.columns if _is_day(frame[name])}
    # A category without values would be of no type at all.
    kinds |= {name: "string" for name in frame.columns if _is_void(frame[name])}
    written = io.BytesIO()
    frame.astype(kinds).to_parquet(written, engine="pyarrow", index=False)
    return written.getvalue()


def as_table(frame: pd.DataFrame, width: int | None) -> str:
    """Columns side by side; where they don't fit into the width, a line each value. None: as wide as they are."""
    cells = [_cells(frame.iloc[:, place]) for place in range(frame.shape[1])]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, name in enumerate(frame.columns):
        is_text = _is_text(frame.iloc[:, place])
        # A text may be folded, but not into a thread of letters.
        least = max(cell_len(name), min(_LEGIBLE, max(map(cell_len, cells[place]), default=0)))
        side: JustifyMethod = "left" if is_text else "right"
        table.add_column(shown(name), justify=side, no_wrap=not is_text, overflow="fold", min_width=least)
    for row in zip(*cells, strict=True):
        table.add_row(*map(Text, row))
    endless = Console(file=io.StringIO(), width=1_000_000, color_system=None)
    if width and Measurement.get(endless, endless.options, table).minimum > width:
        return "\n\n".join([*_blocks(list(frame.columns), cells), _summary(frame)])
    console = Console(file=io.StringIO(), width=width, color_system=None) if width else endless
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join([*lines, "", _summary(frame)])


def _columns(frame: pd.DataFrame) -> list[list[Any]]:
    return [_values(frame.iloc[:, place]) for place in range(frame.shape[1])]


def _values(series: "pd.Series[Any]") -> list[Any]:
    """Its values as JSON has them: integers, numbers, booleans, else text; None for what isn't known."""
    known = [None if pd.isna(value) else value for value in series.tolist()]
    if isinstance(series.dtype, pd.Float64Dtype):
        return [value if value is not None and math.isfinite(value) else None for value in known]
    if _is_day(series):
        return [value and value.date().isoformat() for value in known]
    if _is_time(series):
        return [value and value.isoformat().replace("+00:00", "Z") for value in known]
    return known


def _cells(series: "pd.Series[Any]") -> list[str]:
    """Its values for people: times to the second, numbers of a column with as many digits."""
    values = _values(series)
    if isinstance(series.dtype, pd.Float64Dtype):
        digits = max([len(f"{v:.3f}".rstrip("0").partition(".")[2]) for v in values if v is not None], default=0)
        return [_NULL if value is None else f"{value:.{digits}f}" for value in values]
    if _is_time(series) and not _is_day(series):
        values = [v and re.sub(r"\.\d+", "", v).replace("T", " ") for v in values]
    if isinstance(series.dtype, pd.BooleanDtype):
        values = [None if value is None else "yes" if value else "no" for value in values]
    return [_NULL if value is None else shown(str(value)) for value in values]


def _blocks(names: list[str], cells: list[list[str]]) -> list[str]:
    """A block each row, a line each value."""
    widest = max(map(len, names))
    return [
        "\n".join(f"{n:<{widest}}  {cell}" for n, cell in zip(names, row, strict=True))
        for row in zip(*cells, strict=True)
    ]


def _summary(frame: pd.DataFrame) -> str:
    rows = {0: "no rows", 1: "1 row"}.get(len(frame), f"{len(frame)} rows")
    return rows + ("; times with a Z are UTC" if any(_is_utc(frame.iloc[:, p]) for p in range(frame.shape[1])) else "")


def _is_text(series: "pd.Series[Any]") -> bool:
    return isinstance(series.dtype, pd.StringDtype | pd.CategoricalDtype)


def _is_void(series: "pd.Series[Any]") -> bool:
    return isinstance(series.dtype, pd.CategoricalDtype) and len(series.dtype.categories) == 0


def _is_time(series: "pd.Series[Any]") -> bool:
    return pd.api.types.is_datetime64_any_dtype(series)


def _is_utc(series: "pd.Series[Any]") -> bool:
    return isinstance(series.dtype, pd.DatetimeTZDtype)


def _is_day(series: "pd.Series[Any]") -> bool:
    """Whether it holds dates, which `etl/reporting/dataframes.py` gives whole seconds."""
    return str(series.dtype) == "datetime64[s]"
