"""The files that ship beside the code: migrations and SQL."""

from pathlib import Path


def folder(name: str) -> Path:
    """`migrations` or `sql`: inside the package where it was installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / name
    return installed if installed.is_dir() else package.parent / name
