"""The review page: a local web server for the manual quality check of every defaced scan."""

from efface.review.agreement import Agreement, RaterPair
from efface.review.server import serve
from efface.review.session import Session

__all__ = ["Agreement", "RaterPair", "Session", "serve"]
