"""The HTTP side of a station: live page, API, metrics, and who may use them. app.py builds the application.

Needs vlj-edge[serve]; only vlj_edge/cli/serve.py imports it. What narrates belongs in the folder above, and the page
itself is vlj_edge/pages/live.html.
"""
