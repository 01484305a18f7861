"""Checks the URLs of a file in background jobs and mails a report: `python -m examples.url_monitor --help`.

Read `commands.py` first: it holds the jobs. `app.py` starts them, `terminal.py` watches them, `summary.py` reads back
what became of them, and `servers.py` is the small world they run in.
"""
