"""Builds a feature set from tables in a folder or an object store: what a SparkApplication or `spark-submit` runs.

    spark-submit components/spark/build.py --tables=s3://shop/tables --output=s3://shop/features

The settings are those that RECOMMENDER_SETTINGS names. It does what `recommender features` does, without its extra.
"""

import argparse
import sys

from recommender import logs
from recommender.errors import RecommenderError
from recommender.features.between import build_between
from recommender.settings import load_settings


def main(words: list[str]) -> int:
    """Build, and return the exit code."""
    parser = argparse.ArgumentParser(prog="components/spark/build.py", description=__doc__)
    parser.add_argument("--tables", required=True, help="the folder or address of the tables, with their manifest")
    parser.add_argument("--output", required=True, help="the folder or address of the feature set")
    asked = parser.parse_args(words)
    logs.configure(process="features")
    try:
        build_between(asked.tables, asked.output, load_settings())
    except RecommenderError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
