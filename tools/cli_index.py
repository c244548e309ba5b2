"""Write anew what `ikem-fast --help` reads, after a change of a command, an option or a text.

python tools/cli_index.py
"""

import json

from ikem_fast.cli.index import FILE
from ikem_fast.cli.parser import build_index
from ikem_fast.files import write_text

write_text(FILE, json.dumps(build_index(), indent=1, ensure_ascii=False) + "\n")
