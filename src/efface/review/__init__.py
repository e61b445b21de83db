"""The review page: a local web server by which people look at every defaced scan and say what they think of it."""
