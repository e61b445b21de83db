"""SLANT: 27 networks on overlapping tiles of the standard grid."""
