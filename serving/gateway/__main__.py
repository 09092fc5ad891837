"""`python -m serving.gateway`: the gateway, as its container and `recommender serve` start it."""

import os

from serving.stopping import end_at_sigterm

# `import feast` sets this for its whole process, which may have started this one; then prometheus_client would keep
# every figure in files of Feast's temporary folder. The gateway's processes add up their figures themselves.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
end_at_sigterm()  # before the slow imports below: a container's first process ignores SIGTERM until it has a handler

from serving.gateway.run import main  # noqa: E402

main()
