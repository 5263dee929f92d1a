"""The version of tabb, for whoever must know it without importing the rest."""

__version__ = "0.1.0"
