"""The command ``skmode-deploy``."""

from skmode_deploy.cli.commands import EXIT_CODES, main

__all__ = ["EXIT_CODES", "main"]
