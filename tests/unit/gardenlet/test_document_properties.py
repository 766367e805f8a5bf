"""Whatever the bytes, there is a configuration or an InvalidConfigurationError; and the notation does not matter."""

import contextlib
import json

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.errors import InvalidConfigurationError
from reconciler.gardenlet import document

META = {"apiVersion": "gardenlet.config.gardener.cloud/v1alpha1", "kind": "GardenletConfiguration"}
HEAD = "apiVersion: gardenlet.config.gardener.cloud/v1alpha1\nkind: GardenletConfiguration\n"
NAMES = st.one_of(st.sampled_from(["DefaultSeccompProfile", "AllAlpha", "AllBeta", "yes", "1", "<<"]), st.text())
GATES = st.dictionaries(NAMES, st.booleans(), max_size=6)
WORDS = (
    "a b true false yes null ~ 1 0x1 1.5 .inf .nan << <<: a: b: featureGates: DefaultSeccompProfile: etcdConfig: kind:"
)
SIGNS = "&a *a &b *b !!str !!bool !!binary ! !x { } [ ] , : ? - ' \" \\ | > # % @ ` --- ..."
CHARACTERS = "\n\t\r\x85\u2028\ufeff\x00\ud7ff"
PIECES = st.sampled_from([*WORDS.split(), *SIGNS.split(), *CHARACTERS])
SCRAPS = st.lists(st.one_of(PIECES, st.text(max_size=4)), max_size=30).map(" ".join)
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=10,
)


class Quoting(yaml.SafeDumper):
    """Quotes every text: PyYAML would leave N or 1e3 plain, which are no texts to go-yaml."""


Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def gates_of(given_document: bytes) -> dict[str, bool]:
    return dict(document.parse(given_document, origin="x").feature_gates)


@given(st.binary(max_size=300))
def test_any_bytes_yield_an_answer(given_document: bytes) -> None:
    for read in (document.parse, document.parse_any):
        with contextlib.suppress(InvalidConfigurationError):
            read(given_document, origin="x")


@given(SCRAPS)
@settings(max_examples=300)
def test_any_scraps_of_yaml_yield_an_answer(text: str) -> None:
    for given_document in (text, HEAD + text, f"{HEAD}featureGates:\n  {text}", "{" + text):
        for encoding in ("utf-8", "utf-16"):
            with contextlib.suppress(InvalidConfigurationError):
                document.parse_any(given_document.encode(encoding, "surrogatepass"), origin="x")


@given(GATES, st.booleans())
def test_json_and_yaml_say_the_same(gates: dict[str, bool], ascii_only: bool) -> None:  # noqa: FBT001
    whole = {**META, "featureGates": gates}
    expected = {name: gates[name] for name in gates}
    assert gates_of(json.dumps(whole, ensure_ascii=ascii_only).encode()) == expected
    assert gates_of(yaml.dump(whole, Dumper=Quoting).encode()) == expected
    assert gates_of(yaml.dump(whole, Dumper=Quoting, default_flow_style=True).encode("utf-16")) == expected


@given(GATES)
def test_order_of_keys_is_irrelevant(gates: dict[str, bool]) -> None:
    whole = {**META, "featureGates": gates}
    turned = dict(reversed([*META.items(), ("featureGates", dict(reversed(gates.items())))]))
    for dump in (json.dumps, lambda value: yaml.dump(value, Dumper=Quoting, sort_keys=False)):
        assert gates_of(dump(whole).encode()) == gates_of(dump(turned).encode())


@given(GATES, st.dictionaries(st.text(min_size=1, max_size=8).map(lambda name: f"x{name}"), JSON_VALUES, max_size=3))
def test_unknown_fields_change_nothing(gates: dict[str, bool], unknown: dict[str, object]) -> None:
    whole = {**unknown, **META, "featureGates": gates}
    assert gates_of(json.dumps(whole).encode()) == gates


@given(st.integers(min_value=0, max_value=200))
def test_truncated_value_is_refused_or_whole(length: int) -> None:
    """Once the gate's value has begun, a prefix is refused or still on. Cut before that, the gate is off: no reader can
    tell such a document from one that was meant so, and gardenlet reads it alike."""
    whole = f"{HEAD}featureGates:\n  DefaultSeccompProfile: true\n".encode()
    try:
        gates = gates_of(whole[:length])
    except InvalidConfigurationError:
        return
    assert gates.get("DefaultSeccompProfile") is True or b"DefaultSeccompProfile: t" not in whole[:length]
