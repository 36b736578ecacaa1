"""Ask the server in this container whether it is ready: exit status 0 if so, else 1.

``SKMODE_HEALTH_URL`` names another address than that of ``skmode-deploy serve``'s defaults, for
example ``https://127.0.0.1:8080/v2/health/ready`` where the server has a certificate.
"""

import os
import ssl
import sys
import urllib.request

URL = os.environ.get("SKMODE_HEALTH_URL", "http://127.0.0.1:8080/v2/health/ready")


def is_ready(url: str = URL) -> bool:
    """Ask once. The certificate is not checked, for it is not made out to 127.0.0.1."""
    context = ssl._create_unverified_context() if url.startswith("https:") else None
    # A proxy of the environment would be asked for 127.0.0.1 of its own.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(url, timeout=2) as response:
            return response.status == 200
    except OSError as error:
        print(f"healthcheck: {url}: {error}", file=sys.stderr)
        return False


if __name__ == "__main__":
    sys.exit(0 if is_ready() else 1)
