"""Whole-brain segmentation into the 132 BrainCOLOR labels."""
