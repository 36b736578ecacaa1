"""Metrics in the formats that Prometheus reads."""

import contextlib
import struct
import time

from prometheus_client import CollectorRegistry, exposition

from skmode_deploy.serving.protocol.errors import RequestError

TRIES, SECONDS_BETWEEN_TRIES = 5, 0.01


def write_metrics(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Write all metrics in the format that a client accepts, and name its content type.

    Several processes write to files while these are read: what is half written is whole soon.
    """
    encode, content_type = exposition.choose_encoder(accept)
    for _ in range(TRIES):
        with contextlib.suppress(OSError, ValueError, KeyError, struct.error):
            return encode(registry), content_type
        time.sleep(SECONDS_BETWEEN_TRIES)
    raise RequestError("The metrics cannot be read: try again.", 503, retry_after=1)
