"""Where the repository lies, for tests that hold its files to one another."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
