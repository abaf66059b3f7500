"""Settings: closed to unknown keys, read from four sources, one line for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from geoanom.config import Config, Section, Threshold, canonical_json, dump_config, load_config, parse_config
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = Callable[[str], Path]

CONFIGS = Path(__file__).parents[1] / "configs"
OTHERS = {CONFIGS / "pretrain.yaml", CONFIGS / "monitor.yaml"}
"""Settings of other kinds."""
RULES = ("fdr", "contamination", "top")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(text: str) -> Path:
        path = tmp_path / "settings.yaml"
        path.write_text(text, "utf-8")
        return path

    return put


def test_the_shipped_default_file_is_the_defaults() -> None:
    assert load_config(CONFIGS / "default.yaml", environ={}) == Config() == load_config(environ={})


def paths(model: Section) -> set[str]:
    """All settings as dotted paths."""
    return {
        f"{name}.{inner}" if inner else name
        for name in type(model).model_fields
        for inner in (paths(getattr(model, name)) if isinstance(getattr(model, name), Section) else {""})
    }


def test_the_shipped_default_file_shows_every_setting() -> None:
    tree = yaml.safe_load((CONFIGS / "default.yaml").read_text("utf-8"))
    shown = set()
    for path in paths(Config()):
        node = tree
        for key in path.split("."):
            node = node.get(key, {}) if isinstance(node, dict) and key in node else "missing"
        if node != "missing":
            shown.add(path)
    assert paths(Config()) - shown == {"threshold.contamination", "threshold.top"}  # they would displace the fdr


@pytest.mark.parametrize("path", sorted(set(CONFIGS.glob("*.yaml")) - OTHERS), ids=lambda path: path.name)
def test_every_shipped_file_is_read_and_round_trips(path: Path, write: Write) -> None:
    config = load_config(path, environ={})
    assert load_config(write(dump_config(config)), environ={}) == config


def test_the_conv_ae_file_chooses_that_backbone() -> None:
    assert load_config(CONFIGS / "conv_ae.yaml", environ={}).embed.backbone == "conv_ae"


TREES = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "bands": st.none() | st.lists(st.integers(1, 20), min_size=1, max_size=4),
        "tiles": st.integers(8, 64).flatmap(lambda size: st.fixed_dictionaries({"size": st.just(size), "stride": st.integers(1, size)})),
        "embed": st.fixed_dictionaries(
            {"weights": st.text(min_size=1, max_size=8), "training": st.fixed_dictionaries({"learning_rate": st.floats(1e-9, 10.0)})}
        ),
        "detect": st.fixed_dictionaries(
            {
                "members": st.just(
                    [{"name": "lof", "params": {"n_neighbors": 3, "p": 1.5, "metric": "no", "metric_params": {"a": [None, True]}}}]
                )
            }
        ),
        "threshold": st.one_of(
            st.fixed_dictionaries({"top": st.integers(1, 99)}), st.fixed_dictionaries({"contamination": st.floats(0.001, 0.999)})
        ),
    },
)


@settings(max_examples=40, deadline=None)
@given(tree=TREES)
def test_settings_written_and_read_back_are_equal(tree: dict[str, Any]) -> None:
    config = parse_config(tree)
    assert parse_config(yaml.safe_load(dump_config(config))) == config
    assert parse_config(config.model_dump(mode="json")).digest() == config.digest()


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("tile: {size: 32}", "tiles"),
        ("tiles: {siez: 32}", "tiles.size"),
        ("embed: {training: {epoch: 3}}", "embed.training.epochs"),
        ("embed: {head: {hiden: [3]}}", "embed.head.hidden"),
        ("detect: {members: [{name: knn}, {nam: lof}]}", "detect.members.1.name"),
        ("threshold: {tpo: 3}", "threshold.top"),
        ("threshold: {tpo: null}", "threshold.top"),
    ],
)
def test_an_unknown_key_is_answered_with_the_full_path_of_the_nearest_one(write: Write, text: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown setting; did you mean '{near}'"):
        load_config(write(text), environ={})


def test_later_sources_win(write: Write) -> None:
    path, environ = write("tiles: {size: 16, stride: 4}\nseed: 1"), {"GEOANOM_TILES__SIZE": "32", "GEOANOM_SEED": "2"}
    assert load_config(environ={}).tiles.size == 64
    assert load_config(path, environ={}).tiles.size == 16
    assert load_config(path, environ=environ).tiles.size == 32
    assert load_config(path, ["tiles.size=48"], environ).tiles.size == 48
    config = load_config(path, ["tiles.size=48"], environ)
    assert (config.tiles.stride, config.seed) == (4, 2)


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOANOM_EMBED__TRAINING__EPOCHS", "7")
    assert load_config().embed.training.epochs == 7


def test_variables_that_name_no_setting_are_left_alone_and_misspelt_ones_are_not() -> None:
    assert load_config(environ={"GEOANOM_WEBHOOK_SECRET": "x", "SEED": "9", "OTHER__SEED": "9"}) == Config()
    with pytest.raises(ConfigError, match=r"did you mean 'tiles\.size'"):
        load_config(environ={"GEOANOM_TILES__SIEZ": "32"})


def test_values_of_set_are_yaml() -> None:
    config = load_config(sets=["bands=[3, 2, 1]", "tiles.stride=null", "detect.reconstruction=false", "embed.weights=none"], environ={})
    assert (config.bands, config.tiles.stride, config.detect.reconstruction, config.embed.weights) == ((3, 2, 1), None, False, "none")


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("tiles.size", "write --set key.path=value"),
        ("tiles.size=[3", "not YAML"),
        ("seed.x.y=3", "not YAML|not a group|valid integer"),
        ("detect.members.0.name=knn", "detect.members"),
        ("=3", "unknown setting"),
        ("tiles.size=", "tiles.size"),
        ("tiles=3", "tiles"),
    ],
)
def test_a_set_that_cannot_be_used_says_why_on_one_line(item: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(sets=[item], environ={})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rule", RULES)
def test_any_one_threshold_rule_is_enough(rule: str) -> None:
    value = 3 if rule == "top" else 0.1
    threshold = parse_config({"threshold": {rule: value}}).threshold
    assert {name: getattr(threshold, name) for name in RULES} == {**dict.fromkeys(RULES), rule: value}


def test_two_threshold_rules_are_refused_and_none_means_the_default() -> None:
    with pytest.raises(ConfigError, match="threshold: give one of fdr, contamination, top"):
        parse_config({"threshold": {"fdr": 0.1, "top": 3}})
    for given_rules in ({}, {"fdr": None}, dict.fromkeys(RULES)):
        assert parse_config({"threshold": given_rules}).threshold == Threshold(fdr=0.05)
    with pytest.raises(ConfigError, match="threshold"):
        parse_config({"threshold": 0.01})


def test_a_rule_of_a_later_source_displaces_that_of_an_earlier_one(write: Write) -> None:
    path = write("threshold: {contamination: 0.2}")
    assert load_config(path, environ={"GEOANOM_THRESHOLD__FDR": "0.01"}).threshold == Threshold(fdr=0.01)
    assert load_config(path, ["threshold.top=5"], {"GEOANOM_THRESHOLD__FDR": "0.01"}).threshold == Threshold(top=5)
    assert load_config(path, ["threshold.top=null"], {}).threshold == Threshold(contamination=0.2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("on: 1", "the key 'on' means True in YAML, put it in quotes"),
        ("tiles:\n  no: 3", "the key 'no' means False .* line 2"),
        ("1: 2", "the key '1' means 1"),
        ("seed: 1\nseed: 2", "the key 'seed' is given twice"),
        ("- seed", "is not a mapping"),
        ("seed: [", "cannot be read as YAML"),
        ("tiles:", "tiles: should be a group of settings"),
        ("schema_version: 2", "schema_version"),
        ("seed: -1", "seed"),
        ("embed: {training: {learning_rate: .inf}}", "finite"),
        ("tiles: {min_valid_fraction: .nan}", "min_valid_fraction"),
        ("detect: {members: [{name: knn, params: {k: .nan}}]}", "finite"),
        ("detect: {members: [{name: knn}, {name: knn}]}", "two members are called 'knn': give one of them a label"),
        ("detect: {members: [{name: knn}, {name: lof, label: knn}]}", "two members are called 'knn'"),
        ("detect: {members: [{name: knn, label: reconstruction}]}", "two members are called 'reconstruction'"),
        ("detect: {members: [{name: knn, label: ''}]}", "detect.members.0.label"),
        ("embed: {head: {kind: supervised, labels: a.csv, train_on: broad}}", "leave train_on at 'scene'"),
        ("detect: {members: []}", "detect.members"),
        ("tiles: {size: 16, stride: 17}", "pixels would be skipped"),
        ("calibrate: {trim_fraction: 0.45}", "trim_fraction must be smaller"),
        ("a: !!python/object/apply:os.getcwd []", "cannot be read as YAML"),
    ],
)
def test_a_file_that_cannot_be_used_says_why_on_one_line(write: Write, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(write(text), environ={})
    assert "settings.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_anchor_may_be_merged_and_overridden(write: Write) -> None:
    text = "normalize: &n {low_percentile: 2.0}\n"
    assert load_config(write(text), environ={}).normalize.low_percentile == 2.0
    merged = load_config(write("tiles: &t {size: 16}\n"), environ={})
    assert merged.tiles.size == 16


def test_a_file_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_an_empty_file_is_the_defaults(write: Write) -> None:
    assert load_config(write("# nothing\n"), environ={}) == Config()


def test_the_step_is_half_the_size_unless_it_is_given() -> None:
    assert parse_config({"tiles": {"size": 65}}).tiles.step == 32
    assert parse_config({"tiles": {"size": 65, "stride": 7}}).tiles.step == 7


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().seed = 3  # type: ignore[misc]


def test_the_digest_follows_what_can_change_a_layer_and_nothing_else() -> None:
    assert parse_config({"runtime": {"device": "cpu", "threads": 7}}).digest() == Config().digest()
    for tree in ({"seed": 1}, {"threshold": {"top": 3}}, {"embed": {"dim": 8}}):
        assert parse_config(tree).digest() != Config().digest()


def test_a_model_is_made_of_everything_but_runtime_threshold_and_permissions() -> None:
    tree = {"runtime": {"threads": 2}, "threshold": {"top": 3}, "sources": {"allow": ["vrt"]}}
    assert parse_config(tree).frozen_part() == Config().frozen_part()
    assert parse_config({"seed": 1}).frozen_part() != Config().frozen_part()


def test_canonical_json_is_one_text_per_value() -> None:
    assert canonical_json({"b": [1, 2.5], "a": None}) == canonical_json({"a": None, "b": [1, 2.5]}) == '{"a":null,"b":[1,2.5]}'
