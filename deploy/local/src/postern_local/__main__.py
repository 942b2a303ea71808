"""`python -m postern_local run|up|down|status|logs|publish`."""

import sys

from postern_local.cli import main

sys.exit(main())
