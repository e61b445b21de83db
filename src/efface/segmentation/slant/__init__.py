"""SLANT: 27 networks on overlapping tiles of the template's space."""
