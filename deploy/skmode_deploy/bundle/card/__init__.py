"""The model card, ``README.md``, of a bundle."""

from skmode_deploy.bundle.card.language import language_card
from skmode_deploy.bundle.card.rows import (
    describe_difference,
    describe_image,
    describe_text,
    list_refusals,
    rows_card,
)
from skmode_deploy.bundle.manifest import Manifest

__all__ = ["describe_difference", "describe_image", "describe_text", "list_refusals", "model_card"]


def model_card(manifest: Manifest) -> str:
    """Write the model card of a bundle.

    Parameters
    ----------
    manifest : Manifest
        Manifest of the bundle.

    Returns
    -------
    str
        Markdown text, which depends only on the manifest.
    """
    return rows_card(manifest) if manifest.language is None else language_card(manifest)
