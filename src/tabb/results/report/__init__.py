"""The transfer report: one page that says which source data can be trusted and how good the policy is."""

from tabb.results.report.page import write_report

__all__ = ["write_report"]
