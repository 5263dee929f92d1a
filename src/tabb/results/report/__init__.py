"""The transfer report: which source data can be trusted, and how good the policy is, on one page."""

from tabb.results.report.page import write_report

__all__ = ["write_report"]
