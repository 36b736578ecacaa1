"""Run the command line: ``python -m skmode_deploy``."""

import sys

from skmode_deploy.cli import main

sys.exit(main())
