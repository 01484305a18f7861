import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum, auto
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    PrivateAttr,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    StringConstraints,
    computed_field,
    field_serializer,
    field_validator,
)
from typing_extensions import TypedDict

from commandjobs.codec import Codec
from commandjobs.errors import InvalidRequest, InvalidResult
from commandjobs.exactness import exact_check

T = TypeVar("T")


class Color(Enum):
    RED = 1
    NAN = "nan"


class Level(StrEnum):
    LOW = auto()


class Size(IntEnum):
    BIG = 3


class Right(Flag):
    READ = auto()
    WRITE = auto()


class Twin(Enum):
    LIST = (1, 2)


class Point(NamedTuple):
    x: int
    y: int


class Item(BaseModel):
    sku: str
    count: int = Field(default=1, ge=0)


class SpecialItem(Item):
    discount: float = 0.0


class Tree(BaseModel):
    children: list["Tree"] = []


class Page(BaseModel, Generic[T]):
    items: list[T]


class Order(BaseModel):
    id: UUID
    note: str
    items: list[Item] = []
    gift: Item | None = None
    at: datetime | None = None
    day: date | None = None
    color: Color = Color.RED
    level: Level = Level.LOW
    mode: Literal["a", 1, True] | None = "a"
    price: float = 0.0
    lengths: tuple[int, ...] = ()
    pair: tuple[int, str] = (1, "")
    names: dict[str, int] = {}
    seen: set[int] = set()
    paid: bool = False


@dataclass
class Parcel:
    weight: int
    label: str = ""
    tracked: bool = field(default=False, compare=False)


@dataclass(slots=True, eq=False)
class Slotted:
    weight: int


ORDER = Order(id=UUID(int=1), note="now")


def comes_back(type_: Any, value: Any) -> bool:
    codec = Codec(type_)
    return bool(codec.load(codec.dump(value)) == value)


def refusal(type_: Any, value: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        Codec(type_, subject="The request of Ship").dump(value)
    assert str(caught.value).startswith("The request of Ship ")
    return caught.value


def refused_field(type_: Any, value: Any) -> str:
    return refusal(type_, value).errors[0][0]


# ── back exactly ────────────────────────────────────────────────────────────────────────────────────────────────────

VALUES = (
    (int, 5),
    (int, 10**4000),
    (str, "grüß \\u0000 \\ 🎉"),
    (float, -0.1),
    (bool, True),
    (int | None, None),
    (list[int], [1, 2]),
    (dict[str, list[bool]], {"ä": [True]}),
    (dict[int, str], {1: "a"}),
    (tuple[int, str], (1, "a")),
    (set[str], {"a", "b"}),
    (frozenset[int], frozenset({1})),
    (int | str, "1"),
    (Color, Color.NAN),
    (Size, Size.BIG),
    (Right, Right.READ | Right.WRITE),
    (Literal["a", 1, True], True),
    (UUID, UUID(int=7)),
    (datetime, datetime(2026, 1, 1, tzinfo=UTC)),
    (datetime, datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=-3)))),
    (datetime, datetime(2026, 1, 1)),  # noqa: DTZ001
    (date, date(1, 1, 1)),
    (time, time(1, 2, 3)),
    (timedelta, timedelta(days=-3, microseconds=1)),
    (Decimal, Decimal("1.10")),
    (bytes, b"abc"),
    (Path, Path("/tmp")),
    (Any, {"a": [1, None, "x"]}),
    (Point, Point(1, 2)),
    (Parcel, Parcel(5, "x", tracked=True)),
    (list[Parcel], [Parcel(5)]),
    (Order, ORDER),
    (Page[Item], Page[Item](items=[Item(sku="a")])),
    (RootModel[list[int]], RootModel[list[int]]([1])),
    (Tree, Tree(children=[Tree(), Tree(children=[Tree()])])),
    (Annotated[str, StringConstraints(max_length=3)], "abc"),
    (Item | None, Item(sku="a", count=2)),
)


@pytest.mark.parametrize(("type_", "value"), VALUES)
def test_value_comes_back_exactly(type_: Any, value: Any) -> None:
    assert comes_back(type_, value)


def test_instance_without_equality_comes_back_by_its_fields() -> None:
    codec = Codec(Slotted)

    assert codec.load(codec.dump(Slotted(5))).weight == 5


def test_hour_that_a_clock_change_repeats_comes_back_as_the_same_instant() -> None:
    second_half_past_two = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
    codec = Codec(datetime)

    assert codec.load(codec.dump(second_half_past_two)).astimezone(UTC) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_model_with_aliases_is_stored_by_alias_and_read_by_both() -> None:
    class Customer(BaseModel):
        user_id: int = Field(alias="userId")

    codec = Codec(Customer)

    assert codec.dump(Customer(userId=5)) == '{"userId":5}'
    assert codec.load('{"user_id":5}') == codec.load('{"userId":5}') == Customer(userId=5)


def test_fields_that_swap_their_names_come_back() -> None:
    class Swapped(BaseModel):
        a: int = Field(alias="b")
        b: int = Field(alias="a")

    assert comes_back(Swapped, Swapped(a=1, b=2))


def test_computed_fields_are_left_to_be_computed_again() -> None:
    class Square(BaseModel):
        model_config = ConfigDict(extra="forbid")
        side: int

        @computed_field  # type: ignore[prop-decorator]
        @property
        def area(self) -> int:
            return self.side**2

    assert comes_back(Square, Square(side=2))


def test_json_field_comes_back() -> None:
    class Envelope(BaseModel):
        content: Json[list[int]]

    assert comes_back(Envelope, Envelope.model_validate({"content": "[1]"}))


def test_model_that_is_built_late_comes_back() -> None:
    class Late(BaseModel):
        model_config = ConfigDict(defer_build=True)
        password: SecretStr
        items: list[Item]

    assert comes_back(Late, Late(password=SecretStr("x"), items=[Item(sku="a")]))


def test_extra_fields_come_back() -> None:
    class Loose(BaseModel):
        model_config = ConfigDict(extra="allow")
        extra: int = 1

    assert comes_back(Loose, Loose.model_validate({"extra": 2, "more": "x"}))


def test_strict_model_comes_back() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        id: UUID
        at: datetime
        color: Color
        pair: tuple[int, str]
        seen: set[int]

    assert comes_back(Strict, Strict(id=UUID(int=1), at=datetime.now(UTC), color=Color.RED, pair=(1, ""), seen={1}))


# ── or refused ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("type_", "value"),
    [(Order, {"id": 1}), (Order, None), (int, "5"), (list[int], "5"), (Parcel, Item(sku="")), (Item, Order)],
)
def test_request_of_the_wrong_type_is_refused(type_: Any, value: Any) -> None:
    assert refused_field(type_, value) == ""


def test_message_says_what_came_and_what_was_expected() -> None:
    assert str(refusal(Order, {"id": 1})) == "The request of Ship must be Order, got dict."


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_float_that_json_does_not_have_is_refused(value: float) -> None:
    assert refused_field(Order, ORDER.model_copy(update={"price": value})) == "price"


@pytest.mark.parametrize("mode", ["constants", "strings", "null"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_refused_however_the_model_writes_it(mode: Any, value: float) -> None:
    class Measure(BaseModel):
        model_config = ConfigDict(ser_json_inf_nan=mode)
        value: float | None

    if mode == "strings" and value == float("inf"):
        assert comes_back(Measure, Measure(value=value)), "a text is JSON"
    else:
        assert isinstance(refusal(Measure, Measure(value=value)), InvalidRequest)


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "a\udfff"])
def test_text_that_a_database_cannot_hold_is_refused(text: str) -> None:
    assert refused_field(Order, ORDER.model_copy(update={"note": text})) == "note"
    assert refused_field(dict[str, Any], {"a": [{"b": text}]}) == "a.0.b"


@pytest.mark.parametrize("text", ["\0", "\ud800"])
def test_key_that_a_database_cannot_hold_is_refused(text: str) -> None:
    assert refusal(dict[str, int], {text: 1}).errors
    assert refusal(dict[str, Any], {"a": {text: 1}}).errors


def test_escaped_backslash_before_a_u_is_no_nul() -> None:
    assert comes_back(str, "\\u0000")


def test_fields_of_a_subclass_would_vanish_and_are_refused() -> None:
    special = SpecialItem(sku="a", discount=0.5)

    assert "would come back as Item(" in str(refusal(Item, special))
    assert refused_field(Order, ORDER.model_copy(update={"gift": special})) == "gift"
    assert refused_field(Order, ORDER.model_copy(update={"items": [Item(sku=""), special]})) == "items.1"


def test_excluded_field_is_refused_unless_it_has_its_default() -> None:
    class Draft(BaseModel):
        text: str = Field(default="", exclude=True)

    assert refused_field(Draft, Draft(text="lost")) == "text"
    assert comes_back(Draft, Draft())


def test_private_attribute_is_refused_unless_it_has_its_default() -> None:
    class Draft(BaseModel):
        _text: str = PrivateAttr(default="")

    draft = Draft()
    assert comes_back(Draft, draft)
    draft._text = "lost"

    assert refused_field(Draft, draft) == "_text"


def test_alias_that_is_written_but_not_read_is_refused() -> None:
    class Customer(BaseModel):
        user_id: int = Field(serialization_alias="userId")

    assert refused_field(Customer, Customer(user_id=1)) == "user_id"


def test_serializer_that_changes_the_value_is_refused() -> None:
    class Rounded(BaseModel):
        price: float

        @field_serializer("price")
        def write(self, price: float) -> float:
            return round(price)

    assert refused_field(Rounded, Rounded(price=1.4)) == "price"
    assert comes_back(Rounded, Rounded(price=1.0))


def test_field_that_is_ignored_by_equality_is_compared_all_the_same() -> None:
    class Named(BaseModel):
        name: str = Field(default="", exclude=True)

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Named)

        def __hash__(self) -> int:
            return 0

    assert refused_field(Named, Named(name="lost")) == "name"


@pytest.mark.parametrize(
    ("update", "place"),
    [
        ({"note": None}, "note"),
        ({"note": 5}, "note"),
        ({"id": str(UUID(int=1))}, "id"),
        ({"items": ({"sku": "a"},)}, "items"),
        ({"items": [{"sku": "a"}]}, "items.0"),
        ({"items": [Item.model_construct(sku="a", count=-1)]}, "items.0.count"),
        ({"paid": "yes"}, "paid"),
        ({"color": 1}, "color"),
        ({"mode": "b"}, "mode"),
        ({"pair": (1,)}, "pair"),
        ({"pair": [1, ""]}, "pair"),
        ({"names": {1: 1}}, "names"),
        ({"day": "2026-01-01"}, "day"),
        ({"note": object()}, "note"),
    ],
)
def test_c07_field_that_was_assigned_without_validation_is_refused(update: dict[str, Any], place: str) -> None:
    assert refused_field(Order, ORDER.model_copy(update=update)).startswith(place)


def test_field_that_was_never_set_is_refused() -> None:
    order = ORDER.model_copy()
    del order.note

    assert refused_field(Order, order) == "note"


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (int, True),
        (Any, (1, 2)),
        (Any, {1: 2}),
        (str | UUID, UUID(int=1)),
        (Twin, Twin.LIST),
        (datetime, datetime(1850, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))),
        (bytes, b"\xff"),
    ],
)
def test_value_that_would_change_is_refused(type_: Any, value: Any) -> None:
    codec = Codec(type_)
    try:
        text = codec.dump(value)
    except InvalidRequest:
        return
    assert codec.load(text) == value
    assert type(codec.load(text)) is type(value)


def test_integer_too_long_to_be_read_back_is_refused() -> None:
    assert refusal(int, 10**5000).errors
    assert refusal(dict[str, Any], {"a": -(10**5000)}).errors


def test_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)

    assert "Circular reference" in str(refusal(Any, value))


def test_e15_oversized_request_is_refused() -> None:
    error = refusal(str, "x" * 1_000_000)

    assert str(error) == (
        "The request of Ship is too large: it has 1,000,002 characters of JSON, and the limit is 1,000,000. "
        "Store the data elsewhere and pass a reference to it."
    )
    assert error.errors[0][1] == "too_large"


def test_limit_counts_characters_and_can_be_off() -> None:
    assert Codec(str, limit=4).dump("ää") == '"ää"'
    assert len(Codec(str, limit=None).dump("x" * 1_000_001)) == 1_000_003


def test_results_raise_their_own_error() -> None:
    with pytest.raises(InvalidResult):
        Codec(int, error=InvalidResult).dump("5")


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=[]), max_size=5),
    st.binary(max_size=3),
    st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(minutes=90))])),
    st.dates(),
    st.decimals(),
    st.uuids(),
    st.sampled_from(
        [Color.RED, Level.LOW, Size.BIG, Right.READ, Point(1, 2), Item(sku="a"), SpecialItem(sku="b"), ORDER]
    ),
    st.sampled_from([Parcel(1), Slotted(1), SecretStr("x"), object(), int]),
)
nested = st.recursive(
    junk,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=2), st.integers(), st.just("\ud800")), inner, max_size=3),
        st.builds(lambda sku, count: Item.model_construct(sku=sku, count=count), inner, inner),
    ),
    max_leaves=6,
)


@given(st.sampled_from([type_ for type_, _ in VALUES]), nested)
def test_any_value_of_any_type_is_refused_or_comes_back_exactly(type_: Any, value: Any) -> None:
    codec = Codec(type_)
    try:
        text = codec.dump(value)
    except InvalidRequest:
        return

    assert same(codec.load(text), value)
    assert "\0" not in text
    json.loads(text, parse_constant=pytest.fail)


@given(st.sampled_from(sorted(Order.model_fields)), nested)
def test_any_value_in_any_field_is_refused_or_comes_back_exactly(name: str, value: Any) -> None:
    codec, order = Codec(Order), ORDER.model_copy(update={name: value})
    try:
        text = codec.dump(order)
    except InvalidRequest:
        return

    assert same(codec.load(text), order)


def same(back: Any, sent: Any) -> bool:
    """Equal, and equal too for the two types that compare by identity."""
    if isinstance(sent, Slotted):
        return isinstance(back, Slotted) and back.weight == sent.weight
    return bool(back == sent)


# ── the quick way ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("type_", [Order, Item, Parcel, Slotted, list[Item], Page[Item], int, float, str | None])
def test_plain_types_are_known_to_be_exact(type_: Any) -> None:
    codec = Codec(type_)
    value = {Order: ORDER, Item: Item(sku=""), Parcel: Parcel(1), Slotted: Slotted(1), int: 1, float: 1.5}.get(
        type_, []
    )

    if isinstance(value, list):
        assert exact_check(codec._adapter.core_schema)
    else:
        assert codec._is_surely_exact(value)


@pytest.mark.parametrize(
    "type_", [Any, int | str, Tree, Decimal, bytes, timedelta, Right, Twin, SecretStr, RootModel[int]]
)
def test_other_types_are_read_back_every_time(type_: Any) -> None:
    assert exact_check(Codec(type_)._adapter.core_schema) is None


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_c07_text_that_does_not_validate_gives_an_error_per_field() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Codec(Order, subject="The request of Ship").load('{"id": 5, "items": [{"sku": "a", "count": -1}]}')

    fields = [(name, code) for name, code, _ in caught.value.errors]
    assert fields == [("id", "uuid_type"), ("note", "missing"), ("items.0.count", "greater_than_equal")]
    assert str(caught.value).startswith("The request of Ship does not validate as Order: field 'id': ")


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Invalid JSON"):
        Codec(Order).load("{")


def test_error_of_a_validator_is_told() -> None:
    class Odd(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            raise LookupError(f"no {n} here")

    with pytest.raises(InvalidRequest, match="does not validate as Odd: no 0 here") as caught:
        Codec(Odd).load('{"n": 0}')
    assert isinstance(caught.value.__cause__, LookupError)


def test_error_does_not_show_the_input() -> None:
    class Login(BaseModel):
        password: SecretStr
        tries: int

    with pytest.raises(InvalidRequest) as caught:
        Codec(Login).load('{"password": ["hunter2"], "tries": "hunter2"}')

    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Account(BaseModel):
    user: str
    password: SecretStr = SecretStr("hunter2")
    pin: Secret[int] = Secret[int](1234)
    key: SecretBytes | None = None
    tokens: dict[str, SecretStr] = {}
    pair: tuple[int, SecretStr] = (1, SecretStr("hunter2"))
    either: int | SecretStr = 5
    owner: "Account | None" = Field(default=None, alias="ownedBy")


ACCOUNT = Account(
    user="ada", key=SecretBytes(b"hunter2"), tokens={"a": SecretStr("hunter2")}, ownedBy=Account(user="bo")
)


def test_secrets_come_back() -> None:
    assert comes_back(Account, ACCOUNT)
    assert comes_back(SecretStr, SecretStr("x"))
    assert comes_back(list[Secret[date]], [Secret[date](date(2026, 1, 1))])


def test_secrets_are_masked_wherever_they_are() -> None:
    codec = Codec(Account)
    masked = codec.mask(codec.dump(ACCOUNT))

    assert "hunter2" not in masked
    assert "1234" not in masked
    view = json.loads(masked)
    assert view["user"] == "ada"
    assert view["password"] == view["pin"] == view["key"] == view["tokens"]["a"] == view["pair"][1] == "**********"
    assert view["ownedBy"]["password"] == "**********"
    assert view["ownedBy"]["key"] is None


def test_secret_given_by_name_where_there_is_an_alias_is_masked() -> None:
    masked = Codec(Account).mask('{"user": "a", "owner": {"password": "hunter2"}, "pin": "not an int"}')

    assert json.loads(masked) == {"user": "a", "owner": {"password": "**********"}, "pin": "**********"}


def test_mask_leaves_types_without_secrets_as_they_are() -> None:
    assert Codec(Item).mask('{ "sku":"a" }') == '{ "sku":"a" }'


@pytest.mark.parametrize("text", ["", "{", "nothing"])
def test_what_is_no_json_is_masked_as_a_whole(text: str) -> None:
    assert Codec(Account).mask(text) == '"**********"'


def test_secret_in_a_named_tuple_is_masked() -> None:
    class Login(NamedTuple):
        user: str
        password: SecretStr

    codec = Codec(Login)

    assert "hunter2" not in codec.mask(codec.dump(Login("ada", SecretStr("hunter2"))))


def test_secret_in_a_typed_dict_and_a_dataclass_is_masked() -> None:
    class Login(TypedDict):
        password: SecretStr

    @dataclass
    class Session:
        login: Login
        token: SecretStr

    codec = Codec(Session)
    session = Session(Login(password=SecretStr("hunter2")), SecretStr("hunter2"))

    assert codec.load(codec.dump(session)) == session
    assert json.loads(codec.mask(codec.dump(session))) == {"login": {"password": "**********"}, "token": "**********"}


def test_secret_that_cannot_be_stored_names_its_field() -> None:
    assert refused_field(Account, ACCOUNT.model_copy(update={"password": SecretStr("\ud800")})) == "password"


# ── what types are called ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("type_", "name"),
    [(Order, "Order"), (int, "int"), (list[int], "list[int]"), (int | None, "int | None"), (Page[Item], "Page[Item]")],
)
def test_type_name(type_: Any, name: str) -> None:
    assert Codec(type_).type_name == name


def test_json_schema() -> None:
    schema = Codec(Item).json_schema()

    assert schema
    assert schema["required"] == ["sku"]
