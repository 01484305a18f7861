"""Connections that callers bring along, so that their jobs are part of their own transactions.

`caller` says what the storage needs of one, `recognise` finds out what kind one is, and there is a module for each
library. A library is never imported for it: whoever brings a connection of it has done so.
"""
