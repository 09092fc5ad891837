"""The module that `feast apply` reads: the definitions of the materialise step, as module attributes.

    FEATURE_STORE_HOME=$PWD/var/feature_store FEATURE_STORE_PROJECT=campaigns \
        feast --chdir feature_repo --feature-store-yaml feature_repo/environments/local/feature_store.yaml apply

Feast demands that definitions stand at module level, so this module alone reads the environment at import.
"""

import os
from pathlib import Path

from feature_repo.definitions import define
from recommender.settings import Settings
from recommender.storage.home import FeatureStoreFolder, Home

_default = Home.of(Settings()).feature_store.root
_offline = FeatureStoreFolder(Path(os.environ.get("FEATURE_STORE_HOME", _default)).absolute()).offline
_definitions = define(os.environ.get("FEATURE_STORE_OFFLINE", str(_offline)), _offline)

for _definition in _definitions.everything:
    # An entity and a view may have one name.
    _suffix = "_entity" if _definition in _definitions.entities else ""
    globals()[_definition.name + _suffix] = _definition
