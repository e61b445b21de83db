"""Run the command line as ``python -m efface.cli``."""

import sys

from efface.cli import main

sys.exit(main())
