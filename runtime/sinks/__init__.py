"""Destinations of texts: the terminal, files, an annotated video, MQTT, webhooks, speech.

Each sink takes one event at a time and may block or fail; queue.py runs it in a thread of its own, with retries. Code
that produces events is not here.
"""
