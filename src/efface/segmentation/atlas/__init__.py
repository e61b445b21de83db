"""Segmentation by deformable registration of an atlas and a tissue model."""
