"""python -m ikem_fast: the same as the command ikem-fast."""

import sys

from ikem_fast.cli import main

sys.exit(main())
