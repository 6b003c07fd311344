"""The HTTP side of a station: live page, API, metrics, and access control. app.py builds the application.

Needs vlj-edge[serve]; only vlj_edge/cli/serve.py imports it. Narration is in the folder above; the page itself is
vlj_edge/pages/live.html.
"""
