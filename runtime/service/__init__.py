"""Narrating for weeks: several sources that share one model, their settings, and the supervision of the service.

Here is what a long-running process needs around a Model: channels, the station, its configuration file, the recorder,
systemd. Not here: what a single run of `narrate` needs, and HTTP, which is in http/.
"""
