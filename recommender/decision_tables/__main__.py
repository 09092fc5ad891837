"""`python -m recommender.decision_tables`: compacts the decision log in the pipeline image, which has no command line.

It reads the settings file that RECOMMENDER_SETTINGS names, and exits with 1 if a segment is left out.
"""

import sys

from recommender import logs
from recommender.decision_tables import compact
from recommender.settings import load_settings


def main() -> int:
    """Compact once, and return the exit code."""
    logs.configure(process="compaction")
    return 1 if compact(load_settings()).refused else 0


if __name__ == "__main__":
    sys.exit(main())
