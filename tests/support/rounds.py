"""Randomised tests run few rounds in `make test`, and many in `make prove`."""

import os

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")  # quick, or long: what `make prove` runs
IS_LONG = PROFILE == "long"
