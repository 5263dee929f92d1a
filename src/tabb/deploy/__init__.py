"""Deployment: exports a trained policy to a file that other programs run without tabb (docs/export.md)."""

from tabb.deploy.formats import FORMATS, export

__all__ = ["FORMATS", "export"]
