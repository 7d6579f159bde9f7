"""Which lightly is imitated: the installed one, or the newest that is known."""

from ..peer import installed_release

IS_BEFORE_1_6 = (installed_release("lightly") or (1, 6, 0)) < (1, 6, 0)
