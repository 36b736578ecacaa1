"""The command ``skmode-deploy``."""

from skmode_deploy.cli.arguments import EXIT_CODES
from skmode_deploy.cli.program import main

__all__ = ["EXIT_CODES", "main"]
