"""Does a value come back from JSON as it was?

Two answers. `exact_check` looks at a type's schema once and gives a quick test of values: where it says True, the JSON
that pydantic writes is read back as the same value, so nobody needs to try. `first_difference` compares a value with
what was read back; it decides for all the others, and names the place.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from enum import Enum, Flag
from math import isfinite
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import CoreSchema, SchemaSerializer, SchemaValidator

Schema = Mapping[str, Any]
Test = Callable[[Any], bool]
Check = type[Any] | Test
"""The one class that a value may have, or a test of it. Classes are compared without a call."""
Path = tuple[Any, ...]


class Missing(Enum):
    """Stands for a field that is not there."""

    FIELD = "no value"

    def __repr__(self) -> str:
        return self.value


class Difference(NamedTuple):
    """The first place where what was read back is not what was written."""

    path: Path
    sent: Any
    back: Any


# ── by schema ───────────────────────────────────────────────────────────────────────────────────────────────────────

NEUTRAL = frozenset({"type", "ref", "metadata", "strict"})
"""Keys of a schema that change no value. A type with keys we do not know is not plain."""
NEUTRAL_CONFIG = NEUTRAL | {
    *("cache_strings", "extra_fields_behavior", "from_attributes", "frozen", "hide_input_in_errors", "loc_by_alias"),
    *("revalidate_instances", "title", "validate_assignment", "validate_by_alias", "validate_by_name"),
}
NEUTRAL_DEFAULT = ("schema", "default", "default_factory", "default_factory_takes_data", "validate_default")
NEUTRAL_FIELD = ("name", "schema", "frozen", "kw_only", "init", "validation_alias", "serialization_alias")
NEUTRAL_MODEL = ("cls", "config", "schema", "custom_init", "root_model", "frozen", "generic_origin")
NEUTRAL_DATACLASS = ("cls", "config", "schema", "fields", "cls_name", "slots", "frozen", "post_init", "generic_origin")
NEUTRAL_ARGUMENTS = ("dataclass_name", "fields", "computed_fields", "collect_init_only")
LIMITS = ("ge", "gt", "le", "lt", "max_length", "min_length", "multiple_of", "pattern", "allow_inf_nan")
"""Constraints that refuse values and never change them."""


def exact_check(schema: CoreSchema) -> Test | None:
    """A test that says True only for values that JSON surely gives back; None for a type of which that is never sure.

    schema: pydantic's core schema of the type.
    """
    check = _CheckBuilder().check(schema)
    return None if check is None else _as_test(check)


class _CheckBuilder:
    """Makes the check of a schema out of the checks of its parts, one method for each type of schema it knows."""

    def __init__(self) -> None:
        self._known: dict[str, Schema] = {}
        self._open: set[str] = set()

    def check(self, schema: Schema | CoreSchema) -> Check | None:
        build = getattr(self, "_" + schema["type"].replace("-", "_"), None)
        return build(schema) if build is not None else None

    def _none(self, schema: Schema) -> Check | None:
        return type(None) if _has_only(schema) else None

    def _bool(self, schema: Schema) -> Check | None:
        return bool if _has_only(schema) else None

    def _int(self, schema: Schema) -> Check | None:
        return _limited(schema, int)

    def _str(self, schema: Schema) -> Check | None:
        return _limited(schema, str)

    def _float(self, schema: Schema) -> Check | None:
        check = _limited(schema, float)
        test = check and _as_test(check)
        return test and (lambda value: test(value) and isfinite(value))

    def _uuid(self, schema: Schema) -> Check | None:
        return UUID if _has_only(schema) else None

    def _date(self, schema: Schema) -> Check | None:
        return date if _has_only(schema, "microseconds_precision") else None

    def _datetime(self, schema: Schema) -> Check | None:
        return _is_plain_datetime if _has_only(schema, "microseconds_precision") else None

    def _enum(self, schema: Schema) -> Check | None:
        cls, members = schema["cls"], schema["members"]
        if issubclass(cls, Flag) or not _has_only(schema, "cls", "members", "sub_type", "missing"):
            return None
        return cls if _each_comes_back(schema, members) else None

    def _literal(self, schema: Schema) -> Check | None:
        expected = schema["expected"]
        if not _has_only(schema, "expected") or not _each_comes_back(schema, expected):
            return None
        return lambda value: any(_is_same(value, one) for one in expected)

    def _nullable(self, schema: Schema) -> Check | None:
        check = self.check(schema["schema"]) if _has_only(schema, "schema") else None
        if check is None or not isinstance(check, type):
            return check and (lambda value: value is None or check(value))
        return lambda value: value is None or type(value) is check

    def _default(self, schema: Schema) -> Check | None:
        return self.check(schema["schema"]) if _has_only(schema, *NEUTRAL_DEFAULT) else None

    def _list(self, schema: Schema) -> Check | None:
        return self._items(schema, list)

    def _set(self, schema: Schema) -> Check | None:
        return self._items(schema, set)

    def _frozenset(self, schema: Schema) -> Check | None:
        return self._items(schema, frozenset)

    def _items(self, schema: Schema, cls: type[Any]) -> Check | None:
        if "items_schema" not in schema or not _has_only(schema, "items_schema", "min_length", "max_length"):
            return None
        least, most = schema.get("min_length", 0), schema.get("max_length", float("inf"))
        all_exact = _test_of_each(self.check(schema["items_schema"]))
        return all_exact and (lambda value: type(value) is cls and least <= len(value) <= most and all_exact(value))

    def _tuple(self, schema: Schema) -> Check | None:
        checks = [self.check(item) for item in schema["items_schema"]]
        if None in checks or not _has_only(schema, "items_schema", "variadic_item_index"):
            return None
        if "variadic_item_index" not in schema:
            return _of_items([_as_test(check) for check in checks if check is not None])
        all_exact = _test_of_each(checks[0]) if len(checks) == 1 else None
        return all_exact and (lambda value: type(value) is tuple and all_exact(value))

    def _dict(self, schema: Schema) -> Check | None:
        if "values_schema" not in schema or not _has_only(schema, "keys_schema", "values_schema"):
            return None
        if self.check(schema.get("keys_schema", {"type": "any"})) is not str:
            return None
        all_exact = _test_of_each(self.check(schema["values_schema"]))
        return all_exact and (lambda value: type(value) is dict and _are_ascii(value) and all_exact(value.values()))

    def _model(self, schema: Schema) -> Check | None:
        cls, fields = schema["cls"], schema["schema"]
        if not _has_only(schema, *NEUTRAL_MODEL) or schema["custom_init"] or schema["root_model"]:
            return None
        if not _is_neutral(schema.get("config", {})) or cls.__private_attributes__ or fields["type"] != "model-fields":
            return None
        if not _has_only(fields, "fields", "model_name", "computed_fields"):
            return None
        checks = self._fields(fields["fields"])
        return None if checks is None else _of_fields(cls, checks, attrgetter("__dict__"))

    def _dataclass(self, schema: Schema) -> Check | None:
        cls, arguments = schema["cls"], schema["schema"]
        if not _has_only(schema, *NEUTRAL_DATACLASS) or schema["post_init"] or arguments["type"] != "dataclass-args":
            return None
        if not _is_neutral(schema.get("config", {})) or not _has_only(arguments, *NEUTRAL_ARGUMENTS):
            return None
        checks = self._fields({field["name"]: field for field in arguments["fields"]})
        return None if checks is None else _of_fields(cls, checks, _attributes(tuple(checks)))

    def _fields(self, fields: Mapping[str, Schema]) -> dict[str, Check] | None:
        checks = {name: self.check(field["schema"]) for name, field in fields.items() if _is_plain_field(field)}
        known = {name: check for name, check in checks.items() if check is not None}
        return known if len(known) == len(fields) else None

    def _definitions(self, schema: Schema) -> Check | None:
        self._known |= {definition["ref"]: definition for definition in schema["definitions"]}
        return self.check(schema["schema"])

    def _definition_ref(self, schema: Schema) -> Check | None:
        ref = schema["schema_ref"]
        if not _has_only(schema, "schema_ref") or ref in self._open:  # in itself: left to comparison
            return None
        self._open.add(ref)
        check = self.check(self._known[ref])
        self._open.discard(ref)
        return check


def _has_only(schema: Schema, *keys: str) -> bool:
    return NEUTRAL.union(keys).issuperset(schema)


def _is_neutral(config: Schema) -> bool:
    return NEUTRAL_CONFIG.issuperset(config) and config.get("extra_fields_behavior") != "allow"


def _is_plain_field(field: Schema) -> bool:
    same_alias = field.get("validation_alias") == field.get("serialization_alias")
    return same_alias and field.get("init", True) and _has_only(field, *NEUTRAL_FIELD)


def _limited(schema: Schema, cls: type[Any]) -> Check | None:
    """A scalar, with or without limits that pydantic checks."""
    if _has_only(schema):
        return cls
    if not _has_only(schema, *LIMITS):
        return None
    core_schema: Any = schema
    validator = SchemaValidator(core_schema)
    return lambda value: type(value) is cls and validator.isinstance_python(value)


def _each_comes_back(schema: Schema, values: Iterable[Any]) -> bool:
    """There are few enough to try them all."""
    core_schema: Any = schema
    write, read = SchemaSerializer(core_schema).to_json, SchemaValidator(core_schema).validate_json
    try:
        return all(_is_same(value, read(write(value))) for value in values)
    except Exception:  # a value that JSON cannot hold
        return False


def _is_same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and bool(value == other)


def _is_plain_datetime(value: Any) -> bool:
    """Other time zones may have seconds in their offset, which ISO 8601 in JSON has not."""
    return type(value) is datetime and (value.tzinfo is None or value.tzinfo is UTC)


def _are_ascii(keys: Iterable[Any]) -> bool:
    """Pydantic replaces lone surrogates in keys, silently, where in values it raises."""
    return all(type(key) is str and key.isascii() for key in keys)


def _as_test(check: Check) -> Test:
    return (lambda value: type(value) is check) if isinstance(check, type) else check


def _test_of_each(check: Check | None) -> Test | None:
    """A test of all values in an iterable."""
    if check is None or not isinstance(check, type):
        return check and (lambda values: all(map(check, values)))
    only = {check}
    return lambda values: only.issuperset(map(type, values))


def _of_items(tests: list[Test]) -> Test:
    def is_exact(value: Any) -> bool:
        return type(value) is tuple and len(value) == len(tests) and all(map(_passes, tests, value))

    return is_exact


def _passes(test: Test, value: Any) -> bool:
    return test(value)


def _attributes(names: tuple[str, ...]) -> Callable[[Any], Mapping[str, Any]]:
    return lambda value: {name: getattr(value, name, Missing.FIELD) for name in names}


def _of_fields(cls: type[Any], checks: Mapping[str, Check], fields_of: Callable[[Any], Mapping[str, Any]]) -> Test:
    """The hot path of every enqueue: classes are compared in one loop, calls are made only for the other fields."""
    classes = [(name, check) for name, check in checks.items() if isinstance(check, type)]
    tests = [(name, check) for name, check in checks.items() if not isinstance(check, type)]

    def is_exact(value: Any) -> bool:
        if type(value) is not cls:
            return False
        fields = fields_of(value)
        for name, expected in classes:
            if type(fields.get(name, Missing.FIELD)) is not expected:
                return False
        for name, test in tests:  # noqa: SIM110  all() over a generator costs more than the tests
            if not test(fields.get(name, Missing.FIELD)):
                return False
        return True

    return is_exact


# ── by comparison ───────────────────────────────────────────────────────────────────────────────────────────────────


SCALARS = frozenset({str, int, bool, float, type(None)})


def first_difference(sent: Any, back: Any, path: Path = ()) -> Difference | None:
    """Where two values differ, or None. Models and dataclasses must be of the same class and are compared by field."""
    if type(sent) in SCALARS and type(sent) is type(back):  # the quick way for most of what there is
        return None if sent == back else Difference(path, sent, back)
    pairs = _pairs(sent, back)
    if pairs is None:
        return None if _is_same_leaf(sent, back) else Difference(path, sent, back)
    for name, one, other in pairs:
        difference = first_difference(one, other, (*path, name))
        if difference is not None:
            return difference
    return None


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Everything in a value that contains nothing else, keys of dicts too, each with its path."""
    parts = _parts(value)
    if parts is None:
        yield path, value
        return
    for name, part in parts.items():
        yield (*path, name), name
        yield from leaves(part, (*path, name))


def _pairs(sent: Any, back: Any) -> Iterator[tuple[Any, Any, Any]] | None:
    """The parts of two values of one shape, side by side; None: compare the values themselves."""
    if type(sent) is not type(back) and not _are_of_one(dict, sent, back) and not _are_of_one(list, sent, back):
        return None
    one, other = _parts(sent), _parts(back)
    if one is None or other is None or isinstance(sent, (set, frozenset)):
        return None
    return ((name, one.get(name, Missing.FIELD), other.get(name, Missing.FIELD)) for name in {**one, **other})


def _are_of_one(cls: type[Any], sent: Any, back: Any) -> bool:
    return isinstance(sent, cls) and isinstance(back, cls)


def _parts(value: Any) -> dict[Any, Any] | None:
    """What a value consists of, by name or index; None for what is no container."""
    if isinstance(value, BaseModel):
        own = {name: vars(value).get(name, Missing.FIELD) for name in type(value).__pydantic_fields__}
        return {**own, **(value.__pydantic_extra__ or {}), **(value.__pydantic_private__ or {})}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, Missing.FIELD) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        parts: dict[Any, Any] = value
        return parts
    if isinstance(value, (list, tuple, set, frozenset)):
        items: Iterable[Any] = value
        return dict(enumerate(items))
    return None


def _is_same_leaf(sent: Any, back: Any) -> bool:
    if isinstance(sent, bool) is not isinstance(back, bool):
        return False
    try:
        return bool(_comparable(sent) == _comparable(back))
    except Exception:  # whatever a class does in its `__eq__`
        return False


def _comparable(value: Any) -> Any:
    """Aware datetimes as UTC: in the hour that a clock change repeats, Python says that one instant is not itself."""
    if isinstance(value, datetime) and value.utcoffset() is not None:
        return value.astimezone(UTC)
    return value
