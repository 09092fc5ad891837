"""MovieLens' titles and genres as a file of attributes.

The sequences number the films anew, so both are joined by MovieLens' own numbers.
"""

from pathlib import Path

import pandas as pd

from recommender.errors import SourceError


def movielens_attributes(folder: Path, output: Path) -> Path:
    """Write `output`, Parquet with item, attributes (the genres with | between) and text (the title), and return it.

    Args:
        folder: Has sequences.parquet (item, movieID) and movies.parquet (movieID, title, genres).
        output: The file to write.

    Raises:
        SourceError: A file is missing or lacks a column; names both.
    """
    sequences = _read(folder / "sequences.parquet", ["item", "movieID"])
    movies = _read(folder / "movies.parquet", ["movieID", "title", "genres"])
    joined = sequences.drop_duplicates().merge(movies, on="movieID", how="inner").sort_values("item")
    output.parent.mkdir(parents=True, exist_ok=True)
    named = joined.rename(columns={"genres": "attributes", "title": "text"})
    named[["item", "attributes", "text"]].to_parquet(output, index=False)
    return output


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    try:
        return pd.read_parquet(path, columns=columns)
    except (ValueError, KeyError, OSError) as error:
        raise SourceError(f"{path}: cannot be read with the columns {', '.join(columns)} ({error})") from None
