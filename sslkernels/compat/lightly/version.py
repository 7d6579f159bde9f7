"""The release of lightly to follow: the imported one, else the installed, else the newest known."""

import sys

from ..peer import installed_release, release

_imported = getattr(sys.modules.get("lightly"), "__version__", "")

IS_BEFORE_1_6 = (release(_imported) or installed_release("lightly") or (1, 6, 0)) < (1, 6, 0)
