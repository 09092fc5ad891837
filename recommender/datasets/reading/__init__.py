"""Any file, object or query as rows in DuckDB: kinds, encodings, compression and the structure of lines.

`open_file` and `open_query` give a view of a source's own rows; `recommender.datasets.values` reads their values.
"""

from recommender.datasets.reading.databases import open_query
from recommender.datasets.reading.excel import sheet_names
from recommender.datasets.reading.fingerprints import content_of
from recommender.datasets.reading.opening import local_files, open_file, resolve
from recommender.datasets.reading.raw import RawTable

__all__ = ["RawTable", "content_of", "local_files", "open_file", "open_query", "resolve", "sheet_names"]
