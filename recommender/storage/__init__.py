"""Files and folders written whole and verified before they are read: manifests, journal, code identity."""
