import sys

from examples.url_monitor.app import main

if __name__ == "__main__":
    sys.exit(main())
