"""Where texts go: the terminal, files, an annotated video, MQTT, webhooks, speech.

Each sink takes one event at a time and may block or fail; queue.py runs it in a thread of its own, with retries. What
produces the events is not in here.
"""
