"""Narrating for weeks: several sources behind one model, their settings, and what keeps a service alive.

Belongs here: what a long-running process needs around a Model (channels, the station, its configuration file, the
recorder, systemd). Does not belong here: anything that a single run of `narrate` needs, and HTTP, which is in http/.
"""
