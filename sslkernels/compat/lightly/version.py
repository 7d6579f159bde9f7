"""Which lightly is imitated: the installed one, or the newest that is known."""

from ..peer import installed_version

IS_BEFORE_1_6 = (installed_version("lightly") or (1, 6)) < (1, 6)
