"""Draw every picture of the documentation again, from packaged data only: ``python tools/figures/make_pictures.py``.

About a minute on one core. Nothing is drawn from a scan of a person: the head is one of the demo cohort, whose people
do not exist, or the average head.
"""

import make_method_pictures
import make_prior_pictures

if __name__ == "__main__":
    make_method_pictures.main([])
    make_prior_pictures.main()
