"""Request ids, which stand in the response and in the log."""

import random
import re

HEADER = "x-request-id"
# Ids are written into logs and headers: control characters must not get there.
_SAFE = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def choose_request_id(given: str) -> str:
    """Keep the id that a client gave its request, or make a random one.

    Examples
    --------
    >>> from skmode_deploy.serving.protocol.request_ids import choose_request_id
    >>> choose_request_id("case-17.a")
    'case-17.a'
    """
    if given and _SAFE.fullmatch(given):
        return given
    return f"{random.getrandbits(128):032x}"
