"""The HTTP side of a station: a live page, an API, and metrics. app.py builds it, and alone needs vlj-edge[serve]."""
