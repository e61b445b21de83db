"""Anatomy of one head: templates, head mask, brain mask, facial landmarks, skin surface."""
