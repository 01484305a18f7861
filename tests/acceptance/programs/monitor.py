"""The demo, with so many seconds of patience for its web servers: `monitor.py SECONDS [arguments]`."""

import runpy
import sys

from examples.url_monitor import commands

commands.URL_TIMEOUT = float(sys.argv.pop(1))
runpy.run_module("examples.url_monitor", run_name="__main__", alter_sys=True)
