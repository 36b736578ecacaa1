"""What a request is called in the answer and in the log."""

import random
import re

HEADER = "x-request-id"
_PLAIN = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def choose_request_id(given: str) -> str:
    """Take the id that a client gives its request, or make one.

    Examples
    --------
    >>> from skmode_deploy.serving.protocol.request_ids import choose_request_id
    >>> choose_request_id("case-17.a")
    'case-17.a'
    """
    if given and _PLAIN.fullmatch(given):
        return given
    return f"{random.getrandbits(128):032x}"
