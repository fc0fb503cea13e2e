"""Version of the engine. What is built carries its own copy of this file, with the version of its commit."""

__version__ = "0+dev"
__revision__ = ""
__built_at__ = ""
