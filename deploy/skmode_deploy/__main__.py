"""The command line, as ``python -m skmode_deploy``."""

import sys

from skmode_deploy.cli import main

sys.exit(main())
