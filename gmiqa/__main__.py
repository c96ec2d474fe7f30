"""``gmiqa``."""

import sys

from gmiqa.cli import main

sys.exit(main())
