"""One set of rules that read any file's texts and native values as canonical values, as DuckDB SQL that streams.

A `Column` of a DuckDB view is given to a rule (`Identifier`, `Number`, `Time`, `Kind`, `Text`). `read_columns` surveys
the columns of a file in one scan and returns a `Reading` for each: SQL of its value, and of what is wrong with a row.
`rule_of` chooses the rule of a canonical column. `collisions` compares identifiers of all files once they are read.
`survey` says what a column holds, for a draft.
"""

from recommender.datasets.values.collisions import Identifiers, collisions
from recommender.datasets.values.column import Column, Rule, read_columns
from recommender.datasets.values.identifiers import Identifier
from recommender.datasets.values.numbers import Number
from recommender.datasets.values.readings import Reading, Readings
from recommender.datasets.values.rules import column_of, rule_of
from recommender.datasets.values.survey import Survey, survey
from recommender.datasets.values.times import Time
from recommender.datasets.values.words import Kind, Text

__all__ = [
    "Column",
    "Identifier",
    "Identifiers",
    "Kind",
    "Number",
    "Reading",
    "Readings",
    "Rule",
    "Survey",
    "Text",
    "Time",
    "collisions",
    "column_of",
    "read_columns",
    "rule_of",
    "survey",
]
