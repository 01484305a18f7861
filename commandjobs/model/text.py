"""Text that every database can hold."""


def storable(text: str) -> str:
    """The text without NUL characters and lone surrogates, which are written as escapes."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")
