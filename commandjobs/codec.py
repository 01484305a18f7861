"""Requests and results as JSON text: what is stored comes back exactly, or is refused before it is stored."""

import re
from functools import cached_property
from typing import Any

from pydantic import PydanticInvalidForJsonSchema, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from commandjobs.checks import shown
from commandjobs.errors import InvalidRequest, InvalidResult
from commandjobs.exactness import Difference, Path, exact_check, first_difference, leaves
from commandjobs.masking import MASKED, has_secrets, mask_of, revealed
from commandjobs.signature import fits, type_name

LIMIT = 1_000_000
"""Characters of JSON that a request may have."""
HUGE_INTEGER = re.compile("[0-9]{4300}")
"""Pydantic writes longer integers than it reads."""

FieldProblem = tuple[str, str, str]
"""Field, code, message: the parts of `FieldError`."""


class Codec:
    """Writes the values of one type as JSON text and reads them back.

    type: anything pydantic can validate.
    subject: what the values are, for messages: "The request of SendEmail".
    limit: characters; a longer text is refused. None: any length.
    error: what is raised for values that are refused, and for text that does not validate.

    Raises pydantic's own errors for a type that it does not support.
    """

    def __init__(
        self,
        type: Any,
        *,
        subject: str = "The value",
        limit: int | None = LIMIT,
        error: type[InvalidRequest | InvalidResult] = InvalidRequest,
    ) -> None:
        self.type = type
        self.type_name = type_name(type)
        self._subject = subject
        self._limit = limit
        self._error = error
        self._adapter = TypeAdapter[Any](type)
        self._is_surely_exact = exact_check(self._adapter.core_schema) or _never
        self.has_secrets = has_secrets(self._adapter.core_schema)
        self._write = self._write_with_secrets if self.has_secrets else self._adapter.serializer.to_json
        self._read = self._adapter.validator.validate_json

    def dump(self, value: Any) -> str:
        """The JSON text that `load` turns into the same value again.

        Raises the codec's error, naming the field, when the value is of the wrong type, cannot be written, would come
        back different, contains NUL characters or lone surrogates, or is over the limit.
        """
        try:
            text = self._write(value, by_alias=True, round_trip=True, warnings=False).decode()
        except Exception as error:
            raise self._unwritable(value, error) from error
        if self._limit is not None and len(text) > self._limit:
            raise self._too_large(len(text), self._limit)
        if not self._is_surely_exact(value) or (len(text) > 4300 and HUGE_INTEGER.search(text)):
            self._refuse_inexact(value, text)
        if "\\u0000" in text:
            self._refuse_nul(text)
        return text

    def refuse_wrong_type(self, value: Any) -> None:
        """Raise the codec's error for a value that is plainly of another type; for those that are not written."""
        if not fits(type(value), self.type) and (refusal := self._wrong_type(value)) is not None:
            raise refusal

    def load(self, text: str | bytes) -> Any:
        """The value of a JSON text. Raises the codec's error, with its `errors` filled, when it does not validate."""
        try:
            return self._read(text, by_alias=True, by_name=True)
        except Exception as error:
            raise self._invalid(f"does not validate as {self.type_name}", error) from _without_input(error)

    def mask(self, text: str) -> str:
        """The same JSON with secret fields as `**********`, for views; what is no JSON is masked as a whole."""
        if not self.has_secrets:
            return text
        try:
            return to_json(self._mask(from_json(text)), inf_nan_mode="constants").decode()
        except ValueError:
            return f'"{MASKED}"'

    def json_schema(self) -> dict[str, Any] | None:
        """The JSON Schema of the type; None for a type that has none."""
        try:
            return self._adapter.json_schema()
        except PydanticInvalidForJsonSchema:
            return None

    @cached_property
    def _mask(self) -> Any:
        return mask_of(self._adapter.core_schema)

    def _write_with_secrets(self, value: Any, **how: Any) -> bytes:
        masked = self._adapter.serializer.to_json(value, **how)
        return to_json(revealed(value, from_json(masked)), inf_nan_mode="constants")

    def _refuse_inexact(self, value: Any, text: str) -> None:
        try:
            back = self._read(text, by_alias=True, by_name=True)
        except Exception as error:
            refusal = self._wrong_type(value) or self._invalid("would not come back from JSON as it is", error)
            raise refusal from _without_input(error)
        difference = first_difference(value, back)
        if difference is not None:
            raise self._wrong_type(value) or self._different(difference)
        if "Infinity" in text:
            self._refuse_infinite(text)

    def _refuse_infinite(self, text: str) -> None:
        try:
            from_json(text, allow_inf_nan=False)
        except ValueError as error:
            raise self._refused((), "infinite", "JSON has no infinite numbers") from error

    def _refuse_nul(self, text: str) -> None:
        """The escape is harmless where it is itself escaped: a backslash and the text `u0000`."""
        for path, leaf in leaves(from_json(text)):
            if isinstance(leaf, str) and "\0" in leaf:
                raise self._refused(path, "nul", "databases cannot hold NUL characters in text; remove them")

    def _wrong_type(self, value: Any) -> Exception | None:
        if _is_instance(value, self.type):
            return None
        problem = f"must be {self.type_name}, got {type_name(type(value))}"
        return self._error(f"{self._subject} {problem}.", [("", "wrong_type", problem)])

    def _different(self, difference: Difference) -> Exception:
        sent, back = shown(difference.sent), shown(difference.back)
        return self._refused(difference.path, "not_exact", f"{sent} would come back as {back}")

    def _unwritable(self, value: Any, error: Exception) -> Exception:
        if (wrong_type := self._wrong_type(value)) is not None:
            return wrong_type
        path = _first_unwritable(value)
        return self._refused(path, "not_serializable", str(error))

    def _too_large(self, size: int, limit: int) -> Exception:
        problem = f"it has {size:,} characters of JSON, and the limit is {limit:,}"
        return self._error(
            f"{self._subject} is too large: {problem}. Store the data elsewhere and pass a reference to it.",
            [("", "too_large", problem)],
        )

    def _refused(self, path: Path, code: str, problem: str) -> Exception:
        field = _field(path)
        place = f"field {field!r}: " if field else ""
        return self._error(f"{self._subject} cannot be stored: {place}{problem}.", [(field, code, problem)])

    def _invalid(self, what: str, error: Exception) -> Exception:
        problems = _problems(error)
        told = "; ".join(f"field {field!r}: {message}" if field else message for field, _, message in problems[:5])
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        return self._error(f"{self._subject} {what}: {told}{more}.", problems)


def _never(value: Any) -> bool:
    del value
    return False


def _is_instance(value: Any, type: Any) -> bool:
    """True as well for types that Python cannot tell."""
    try:
        return isinstance(value, type)
    except TypeError:
        return True


def _problems(error: Exception) -> list[FieldProblem]:
    if not isinstance(error, ValidationError):
        return [("", type(error).__name__, str(error))]
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return [(_field(detail["loc"]), detail["type"], detail["msg"]) for detail in details]


def _field(path: Path) -> str:
    """`items.0.price`; keys may contain what cannot be stored or printed."""
    return ".".join(map(str, path)).encode(errors="backslashreplace").decode()


def _without_input(error: Exception) -> Exception | None:
    """Pydantic's error shows the input, which may be a secret; what a validator of the user raised is worth showing."""
    return None if isinstance(error, ValidationError) else error


def _first_unwritable(value: Any) -> Path:
    try:
        return next((path for path, leaf in leaves(value) if not _is_writable(leaf)), ())
    except RecursionError:  # a value that contains itself
        return ()


def _is_writable(leaf: Any) -> bool:
    try:
        to_json(leaf.get_secret_value() if hasattr(leaf, "get_secret_value") else leaf)
    except Exception:
        return False
    return True
