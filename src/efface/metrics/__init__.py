"""Measures: arrays in, numbers out."""

from efface.metrics.dice import POOLED, WHOLE_BRAIN, Overlap, compare_labels, dice
from efface.metrics.distances import SurfaceDistance, compare_surfaces
from efface.metrics.table import DEFAULT_MEASURES, MEASURES, MeasureSpec, Value, check_measures, measure
from efface.metrics.volumes import VolumeChange, volume_changes, volumes_ml
from efface.statistics.agreement import Agreement, cohen_kappa, fleiss_kappa, icc21

__all__ = [
    "DEFAULT_MEASURES",
    "MEASURES",
    "POOLED",
    "WHOLE_BRAIN",
    "Agreement",
    "MeasureSpec",
    "Overlap",
    "SurfaceDistance",
    "Value",
    "VolumeChange",
    "check_measures",
    "cohen_kappa",
    "compare_labels",
    "compare_surfaces",
    "dice",
    "fleiss_kappa",
    "icc21",
    "measure",
    "volume_changes",
    "volumes_ml",
]
