"""What the Spark image runs: its entrypoint, and the program of a SparkApplication."""
