"""hali: get large language models onto machines, keep them shared, and run them, alone or together."""

from hali._version import __version__

__all__ = ["__version__"]
