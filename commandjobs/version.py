"""The version of this package, as its metadata says."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("commandjobs")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0"
