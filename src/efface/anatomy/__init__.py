"""What is known of a head: templates, head mask, brain mask, facial landmarks, skin surface."""
