"""Secrets in requests and results: stored in clear, because they must come back, and masked in every view.

Secret types are `SecretStr`, `SecretBytes` and `Secret[...]` of pydantic. Pydantic itself writes them masked;
`revealed` puts them into the JSON as they are, and `mask_of` finds them there again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from pydantic import BaseModel, RootModel, Secret, SecretBytes, SecretStr, TypeAdapter
from pydantic_core import CoreSchema, to_jsonable_python

MASKED = "**********"

Mask = Callable[[Any], Any]
"""Takes parsed JSON and gives it back with its secrets masked."""
Schema = Mapping[str, Any]

OPAQUE = frozenset({"cls", "config", "default", "expected", "members", "metadata"})
"""Keys of a schema that hold values and no schemas."""


def has_secrets(schema: CoreSchema) -> bool:
    """Whether a type contains a secret type anywhere."""
    return any(_is_secret(part) for part in _dicts(schema))


def revealed(value: Any, data: Any) -> Any:
    """The parsed JSON that pydantic wrote for a value, with the secrets in it as they are.

    A secret that is not found, because a serializer has moved it, stays masked: it then fails to come back.
    """
    if isinstance(value, (Secret, SecretStr, SecretBytes)):
        secret: Any = value.get_secret_value()
        return revealed(secret, to_jsonable_python(secret, by_alias=True))
    if isinstance(value, RootModel):
        return revealed(value.root, data)
    if isinstance(data, dict):
        fields: dict[str, Any] = data
        parts = _json_keys(value, fields)
        return {key: revealed(parts.get(key), part) for key, part in fields.items()}
    if isinstance(data, list) and isinstance(value, (list, tuple, set, frozenset)):
        items: Iterable[Any] = value
        return [revealed(item, part) for item, part in zip(items, data, strict=False)]
    return data


def mask_of(schema: CoreSchema) -> Mask:
    """What masks the secrets in the JSON of a type. Where it cannot tell which part is secret, it masks all of them."""
    return _MaskBuilder().mask(schema)


def _dicts(schema: Any) -> Iterator[Schema]:
    """A schema and all schemas in it."""
    inner: Iterable[Any] = schema if isinstance(schema, (list, tuple)) else ()
    if isinstance(schema, Mapping):
        parts: Schema = schema
        yield parts
        inner = [part for key, part in parts.items() if key not in OPAQUE]
    for part in inner:
        yield from _dicts(part)


def _serializer(schema: Schema) -> Any:
    serialization = schema.get("serialization")
    return serialization.get("function") if isinstance(serialization, Mapping) else None


SECRET_SERIALIZERS = frozenset(
    serializer
    for secret in (SecretStr, SecretBytes, Secret[int])
    for part in _dicts(TypeAdapter[Any](secret).core_schema)
    if (serializer := _serializer(part)) is not None
)
"""By these functions a schema is known to be that of a secret."""


def _is_secret(schema: Schema) -> bool:
    return _serializer(schema) in SECRET_SERIALIZERS


def _json_keys(value: Any, data: dict[str, Any]) -> dict[str, Any]:
    """What a value consists of, by the keys of its JSON."""
    if isinstance(value, BaseModel):
        fields = type(value).__pydantic_fields__
        own = {field.serialization_alias or name: getattr(value, name, None) for name, field in fields.items()}
        return {**own, **(value.__pydantic_extra__ or {})}
    if isinstance(value, dict):
        parts: dict[Any, Any] = value
        return dict(zip(data, parts.values(), strict=False))
    return {key: getattr(value, key, None) for key in data}


class _MaskBuilder:
    """Makes the mask of a schema out of the masks of its parts."""

    def __init__(self) -> None:
        self._refs: dict[str, Mask] = {}

    def mask(self, schema: Schema | CoreSchema) -> Mask:
        parts = list(_dicts(schema))
        if _is_secret(parts[0]):
            return _mask_all
        if not any(_is_secret(part) or part.get("type") == "definition-ref" for part in parts):
            return _mask_nothing
        build = getattr(self, "_" + schema["type"].replace("-", "_"), self._wrapper)
        return cast("Mask", build(schema))

    def _wrapper(self, schema: Schema) -> Mask:
        """A schema around another one: a model, a default, a validator."""
        return self.mask(schema["schema"]) if "schema" in schema else _mask_all

    def _lax_or_strict(self, schema: Schema) -> Mask:
        return self.mask(schema["lax_schema"])

    def _json_or_python(self, schema: Schema) -> Mask:
        return self.mask(schema["json_schema"])

    def _nullable(self, schema: Schema) -> Mask:
        inner = self.mask(schema["schema"])
        return lambda data: None if data is None else inner(data)

    def _union(self, schema: Schema) -> Mask:
        choices = [choice[0] if isinstance(choice, tuple) else choice for choice in schema["choices"]]
        return _in_turn([self.mask(choice) for choice in choices])

    def _tagged_union(self, schema: Schema) -> Mask:
        return _in_turn([self.mask(choice) for choice in schema["choices"].values()])

    def _chain(self, schema: Schema) -> Mask:
        return _in_turn([self.mask(step) for step in schema["steps"]])

    def _list(self, schema: Schema) -> Mask:
        return _each_item(self.mask(schema["items_schema"]))

    _set = _frozenset = _generator = _list

    def _tuple(self, schema: Schema) -> Mask:
        masks = [self.mask(item) for item in schema["items_schema"]]
        if "variadic_item_index" in schema:
            return _each_item(_in_turn(masks))
        return lambda data: [mask(item) for mask, item in zip(masks, data, strict=False)] if _is_list(data) else data

    def _dict(self, schema: Schema) -> Mask:
        mask = self.mask(schema["values_schema"])
        return _each_field({}, mask)

    def _model_fields(self, schema: Schema) -> Mask:
        extras = self.mask(schema["extras_schema"]) if "extras_schema" in schema else _mask_nothing
        return _each_field(self._fields(schema["fields"]), extras)

    _typed_dict = _model_fields

    def _dataclass_args(self, schema: Schema) -> Mask:
        return _each_field(self._fields({field["name"]: field for field in schema["fields"]}), _mask_nothing)

    def _fields(self, fields: Mapping[str, Schema]) -> dict[str, Mask]:
        """A field may stand in the JSON under its name or one of its aliases."""
        return {
            alias: self.mask(field["schema"])
            for name, field in fields.items()
            for alias in (name, *_aliases(field.get("validation_alias")), *_aliases(field.get("serialization_alias")))
        }

    def _definitions(self, schema: Schema) -> Mask:
        for definition in schema["definitions"]:
            self._refs[definition["ref"]] = self.mask(definition)
        return self.mask(schema["schema"])

    def _definition_ref(self, schema: Schema) -> Mask:
        """Looked up when it is used: a type may contain itself."""

        def mask(data: Any) -> Any:
            return self._refs[schema["schema_ref"]](data)

        return mask


def _mask_all(data: Any) -> Any:
    del data
    return MASKED


def _mask_nothing(data: Any) -> Any:
    return data


def _in_turn(masks: list[Mask]) -> Mask:
    def mask(data: Any) -> Any:
        for one in masks:
            data = one(data)
        return data

    return mask


def _each_item(mask: Mask) -> Mask:
    return lambda data: [mask(item) for item in data] if _is_list(data) else data


def _each_field(masks: Mapping[str, Mask], others: Mask) -> Mask:
    def mask(data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields: dict[str, Any] = data
        return {name: masks.get(name, others)(part) for name, part in fields.items()}

    return mask


def _is_list(data: Any) -> bool:
    return isinstance(data, list)


def _aliases(alias: Any) -> Iterator[str]:
    """An alias is a name, a path into the JSON, or several of these."""
    if isinstance(alias, str):
        yield alias
    elif isinstance(alias, list):
        parts: list[Any] = alias
        for part in parts:
            yield from _aliases(part)
