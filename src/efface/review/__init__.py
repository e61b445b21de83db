"""The review page: a local web server by which people look at every defaced scan and say what they think of it."""

from efface.review.agreement import Agreement, RaterPair
from efface.review.server import serve
from efface.review.session import Session

__all__ = ["Agreement", "RaterPair", "Session", "serve"]
