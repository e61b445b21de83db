"""Figures and the report, rebuilt from the files of a study without computing anything again."""

from efface.report.builder import build_report
from efface.report.dice_figures import plot_effects, plot_rescans

__all__ = ["build_report", "plot_effects", "plot_rescans"]
