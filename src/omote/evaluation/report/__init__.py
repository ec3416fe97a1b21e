"""A self-contained page of a result folder, or of several compared: tables with intervals, figures, contact sheets."""

from omote.evaluation.report.compare import write_comparison
from omote.evaluation.report.page import write_report
from omote.evaluation.report.results import ReleaseResults, load_results

__all__ = ["ReleaseResults", "load_results", "write_comparison", "write_report"]
