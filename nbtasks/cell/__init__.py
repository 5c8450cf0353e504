"""A cell of a notebook as something that can run elsewhere: which names it needs, and which it binds.

Source comes here as IPython has transformed it; nothing in this package knows IPython.
"""

from __future__ import annotations
