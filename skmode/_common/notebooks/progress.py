"""Progress bars: widgets in notebooks that have ipywidgets, text elsewhere."""

from __future__ import annotations

from typing import Any


def progress_bar(*args: Any, disable: bool = False, **options: Any) -> Any:
    """Make a bar of tqdm, which takes the arguments."""
    # tqdm.auto warns in notebooks without ipywidgets, so only a bar that is shown imports it.
    if disable:
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm
    return tqdm(*args, disable=disable, **options)
