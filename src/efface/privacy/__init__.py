"""Can the people in defaced scans be found again? Attacks that try, their controls, and the comparison of a cohort."""
