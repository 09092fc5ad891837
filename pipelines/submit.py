"""Run the pipeline on a KFP endpoint."""

import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recommender.errors import EndpointError


def submit(
    pipeline: Path,
    arguments: Mapping[str, Any],
    *,
    host: str,
    namespace: str,
    experiment: str,
    service_account: str | None = None,
    caching: bool = True,
) -> str:
    """Start a run of a compiled pipeline on a KFP endpoint. A bearer token is read from the environment: KFP_TOKEN.

    Args:
        pipeline: the pipeline's YAML.
        arguments: its parameters.
        host: address of the endpoint.
        namespace: namespace of the run, if the endpoint has several.
        experiment: KFP experiment that the run belongs to.
        service_account: Kubernetes account of the steps. None: the endpoint's default.
        caching: False: every step runs, even if its own setting allows caching.

    Returns:
        Address of the run's page.

    Raises:
        EndpointError: the endpoint cannot be reached, or refuses the run.
    """
    import kfp_server_api
    import urllib3
    from kfp import Client

    # urllib3 logs each of its attempts. The error below says it once.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        # The client warns at every start that it supports only version 2 of the API.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="kfp")
            client = Client(host=host, namespace=namespace, existing_token=os.environ.get("KFP_TOKEN"))
        run = client.create_run_from_pipeline_package(
            str(pipeline),
            arguments=dict(arguments),
            experiment_name=experiment,
            namespace=namespace,
            service_account=service_account,
            enable_caching=None if caching else False,
        )
    except kfp_server_api.ApiException as error:
        raise EndpointError(f"{host} refused the run: {error.status} {error.reason}: {error.body}") from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise EndpointError(f"{host} cannot be reached: {error}") from None
    return f"{host.rstrip('/')}/#/runs/details/{run.run_id}"
