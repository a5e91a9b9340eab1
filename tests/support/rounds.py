"""How long tests by chance go on: `make test` plays few rounds, `make prove` many."""

import os

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")  # quick, or long: what `make prove` runs
IS_LONG = PROFILE == "long"
