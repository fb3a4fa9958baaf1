"""The report: one HTML page from a run's saved results."""

from crysjepa.report.page import write_report

__all__ = ["write_report"]
