"""Version of the engine. A release carries its own copy of this file, written by ``inv pack``."""

__version__ = "0+dev"
__revision__ = ""
__built_at__ = ""
