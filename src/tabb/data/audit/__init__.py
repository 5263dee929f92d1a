"""The audit: what is wrong, or odd, in data files before anyone trains on them, with its place and its remedy."""

from tabb.data.audit.audit import Audit, audit, pair_form, short_form
from tabb.data.audit.finding import Finding

__all__ = ["Audit", "Finding", "audit", "pair_form", "short_form"]
