"""``python -m gmiqa_core``."""

import sys

from gmiqa_core.cli import main

sys.exit(main())
