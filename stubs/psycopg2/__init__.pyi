"""What commandjobs calls of psycopg2, which ships no types."""

from psycopg2 import extensions as extensions

def connect(dsn: str) -> extensions.connection: ...
