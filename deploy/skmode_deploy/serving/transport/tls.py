"""The certificate of the server."""

import ssl

from skmode_deploy.serving.settings import Settings


def check_certificate(settings: Settings) -> None:
    """Load the certificate once, to say what is wrong with it before anything starts."""
    if settings.tls_cert is None:
        return
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, lambda: "")
    except ssl.SSLError as error:
        raise ValueError(
            "tls_cert must be a certificate chain and tls_key its private key, both PEM and "
            f"without a password, got {settings.tls_cert!r} and {settings.tls_key!r}, and to load "
            f"them gave {error}: pass a pair that belongs together."
        ) from None
