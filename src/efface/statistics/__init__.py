"""Intervals, tests and agreement: numbers in, numbers out."""
