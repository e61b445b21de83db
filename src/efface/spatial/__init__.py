"""Geometry and images as arrays: grids, affines, masks, resampling, registration. No anatomy, no files."""
