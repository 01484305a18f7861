"""Runnable programs, one per topic: `python -m examples.hello`, `python -m examples.url_monitor`."""
