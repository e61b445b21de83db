"""SLANT: one network for the whole brain, or 27 networks on overlapping tiles of the standard grid."""
