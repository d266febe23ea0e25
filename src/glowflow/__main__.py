"""`python -m glowflow` is `glow`."""

import sys

from .cli import main

sys.exit(main())
