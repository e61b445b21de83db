"""Measures: arrays in, numbers out."""

from efface.measure.dice import WHOLE_BRAIN, Overlap, compare_labels, dice
from efface.measure.volumes import volumes_ml

__all__ = ["WHOLE_BRAIN", "Overlap", "compare_labels", "dice", "volumes_ml"]
