"""`python -m workbench` is the command."""

import sys

from workbench.cli import main

sys.exit(main())
