"""Print what a bug report needs: ``python -m skmode``, or the command ``skmode``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from skmode import __version__, show_versions


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        "skmode",
        description="Print the versions, extras, devices and threads that a bug report needs. "
        "Bundles are served by the command skmode-deploy.",
    )
    parser.add_argument("--version", action="version", version=f"skmode {__version__}")
    parser.parse_args(arguments)
    show_versions()


if __name__ == "__main__":
    main()
