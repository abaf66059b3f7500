"""Running backbones and heads: the same for any number of threads, halves and head files."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoanom.config import Embed
from geoanom.embed.backbones import build_backbone
from geoanom.embed.device import describe_device, pick_device
from geoanom.embed.embedder import CHUNK_TILES, Embedder, in_batches, joined, learns_from_views, with_fitted_heads, with_heads
from geoanom.embed.heads import backbone_bytes, head_bytes, load_backbone, load_heads
from geoanom.embed.threads import one_thread, side_by_side
from geoanom.errors import ConfigError, ModelError
from geoanom.raster.blocks import TileBlock
from geoanom.raster.normalize import Normalizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

CPU = torch.device("cpu")
TILE, SIDE, N_BANDS = 32, 96, 2
CONV = {"backbone": "conv_ae", "dim": 4, "training": {"epochs": 1, "batch_size": 16}}
POOLED = {"backbone": "resnet18", "weights": "none", "dim": 4, "zoom": 1, "training": {"epochs": 2}}


def embedder(**settings_: Any) -> Embedder:
    made = Embed.model_validate(settings_)
    torch.manual_seed(0)
    return Embedder(
        normalizer=Normalizer(low=(0.0,) * N_BANDS, high=(100.0,) * N_BANDS),
        backbone=build_backbone(made, N_BANDS, TILE),
        heads=(),
        settings=made,
        device=CPU,
    )


def block(seed: int = 0, valid: NDArray[np.bool_] | None = None) -> TileBlock:
    """Four tiles in a patch of 96 x 96 pixels."""
    rows, cols = (index.ravel() for index in np.indices((2, 2)))
    usable = np.ones((SIDE, SIDE), bool) if valid is None else valid
    values = 100 * np.random.default_rng(seed).random((N_BANDS, SIDE, SIDE)).astype(np.float32)
    return TileBlock(
        rows=rows,
        cols=cols,
        tops=16 + 32 * rows,
        lefts=16 + 32 * cols,
        core_tops=16 + 32 * rows,
        core_lefts=16 + 32 * cols,
        size=TILE,
        values=values * usable,
        valid=usable,
        valid_fraction=np.ones(4),
    )


def fitted(**settings_: Any) -> tuple[Embedder, torch.Tensor, NDArray[np.int64]]:
    bare = embedder(**settings_)
    features = joined([bare.features([block(seed)]) for seed in range(10)])
    halves = np.arange(len(features)) // 2 % 2
    return with_fitted_heads(bare, features, halves, seed=0), features, halves


@pytest.fixture(scope="module")
def conv() -> tuple[Embedder, torch.Tensor, NDArray[np.int64]]:
    return fitted(**CONV)


@pytest.fixture(scope="module")
def pooled() -> tuple[Embedder, torch.Tensor, NDArray[np.int64]]:
    return fitted(**POOLED)


def flat(heads: Any) -> torch.Tensor:
    return torch.cat([tensor.double().flatten() for tensor in heads.state_dict().values()])


# Side by side


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order_and_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    one = embedder(**POOLED)
    blocks = [[block(seed)] for seed in range(7)]
    with one_thread():
        wanted = [one.features(batch) for batch in blocks]
        found = list(side_by_side(one.features, blocks, threads=threads, device=CPU))
    assert len(found) == 7
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@settings(max_examples=20, deadline=None)
@given(n=st.integers(0, 30), threads=st.integers(1, 5))
def test_every_item_is_mapped_once_and_in_order(n: int, threads: int) -> None:
    assert list(side_by_side(str, range(n), threads=threads, device=CPU)) == [str(i) for i in range(n)]


def test_items_are_taken_only_a_few_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    results = side_by_side(lambda i: i, items(), threads=2, device=CPU)
    for _ in range(5):
        next(results)
    assert len(taken) <= 5 + 2 + 2
    results.close()  # type: ignore[attr-defined]
    assert len(taken) < 100


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_the_function_or_in_the_items_reaches_the_caller(threads: int) -> None:
    def bad_at_four(i: int) -> int:
        if i == 4:
            raise ConfigError("item", "is four")
        return i

    def ends_badly() -> Iterator[int]:
        yield from range(3)
        raise ConfigError("items", "ended")

    results = side_by_side(bad_at_four, range(9), threads=threads, device=CPU)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="is four"):
        next(results)
    with pytest.raises(ConfigError, match="ended"):
        list(side_by_side(bad_at_four, ends_badly(), threads=threads, device=CPU))


def test_the_number_of_torchs_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


# Features of blocks


@pytest.mark.parametrize("settings_", [CONV, POOLED], ids=["conv_ae", "resnet18"])
def test_a_batch_that_is_not_full_gives_the_bits_of_a_full_one(settings_: dict[str, Any]) -> None:
    one = embedder(**settings_, batch_size=3)
    full = one.features([block(0), block(1), block(2)])
    assert full.shape[0] == 12
    assert torch.equal(one.features([block(0), block(1)]), full[:8])
    assert torch.equal(one.features([block(0)]), full[:4])


@pytest.mark.parametrize("settings_", [CONV, POOLED], ids=["conv_ae", "resnet18"])
def test_parts_that_are_not_valid_do_not_reach_the_other_tiles(settings_: dict[str, Any]) -> None:
    valid = np.ones((SIDE, SIDE), bool)
    valid[80:] = False
    valid[:, :10] = False
    masked = block(0, valid)
    noisy = replace(masked, values=np.where(valid, masked.values, 77.0).astype(np.float32))
    one = embedder(**settings_)
    found = one.features([masked])
    assert found.isfinite().all()
    torch.testing.assert_close(one.features([noisy]), found, rtol=1e-4, atol=1e-4)


def test_bf16_is_close_to_fp32_and_not_the_same() -> None:
    exact, rough = (embedder(**POOLED, precision=precision).features([block()]) for precision in ("fp32", "bf16"))
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() < 0.05 * exact.norm()


@settings(max_examples=30, deadline=None)
@given(n=st.integers(0, 20), size=st.integers(1, 6))
def test_batches_hold_all_blocks_in_order_and_only_the_last_is_short(n: int, size: int) -> None:
    batches = list(in_batches(range(n), size))
    assert [i for batch in batches for i in batch] == list(range(n))
    assert all(len(batch) == size for batch in batches[:-1])


def smooth_block() -> TileBlock:
    """A block whose tiles differ from each other and survive a blur."""
    waves = np.random.default_rng(3).normal(size=(N_BANDS, SIDE, SIDE))
    spectrum = np.fft.fft2(waves) * (np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE))) < 0.1)
    field = np.fft.ifft2(spectrum).real
    return replace(block(), values=(50 + 15 * field / field.std()).astype(np.float32))


def likeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The largest correlation of two tiles (row, col) over all turns and reflections."""
    turned = [np.rot90(view, k) for view in (other, other[:, ::-1]) for k in range(4)]
    return max(float(np.corrcoef(one.ravel(), view.ravel())[0, 1]) for view in turned)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_with_a_seed_another_view_of_the_same_tiles_is_described_in_the_same_order(seed: int) -> None:
    one, shown = embedder(**CONV), smooth_block()
    plain, view = one.features([shown]), one.features([shown], seed)
    assert torch.equal(view, one.features([shown], seed))
    assert not torch.equal(view, plain)
    alike = np.array([[likeness(p, v) for v in view[:, 0].numpy()] for p in plain[:, 0].numpy()])
    assert (alike.argmax(axis=1) == np.arange(4)).all()
    assert (alike.diagonal() > 0.9).all()


# Heads and halves


def test_each_half_has_a_head_that_never_saw_it() -> None:
    one, features, halves = fitted(**POOLED)
    bare = replace(one, heads=())
    changed = features.clone()
    changed[torch.from_numpy(halves == 0)] = changed[torch.from_numpy(halves == 0)].flip(0)  # the scales stay as they are
    again = with_fitted_heads(bare, changed, halves, seed=0)
    assert len(one.heads) == 2
    assert torch.equal(flat(again.heads[0]), flat(one.heads[0]))
    assert not torch.equal(flat(again.heads[1]), flat(one.heads[1]))


@pytest.mark.parametrize("kind", ["contrastive", "supervised"])
def test_no_head_learns_from_views_or_labels_of_its_own_half(kind: str) -> None:
    bare = embedder(**POOLED, head={"kind": kind, "labels": "labels.csv"})
    features = joined([bare.features([block(seed)]) for seed in range(10)])
    halves, labels = np.arange(len(features)) // 2 % 2, np.arange(len(features)) // 4 % 3
    views = features.flip(1)
    assert learns_from_views(bare) == (kind == "contrastive")
    one = with_fitted_heads(bare, features, halves, seed=0, views=views, labels=labels)
    mine = torch.from_numpy(halves == 0)
    other_views, other_labels = views.clone(), np.where(halves == 0, np.arange(len(features)) % 3, labels)
    other_views[mine] = 2 * views[mine]
    again = with_fitted_heads(bare, features, halves, seed=0, views=other_views, labels=other_labels)
    assert torch.equal(flat(again.heads[0]), flat(one.heads[0]))
    assert not torch.equal(flat(again.heads[1]), flat(one.heads[1]))


def test_asking_what_heads_learn_from_leaves_torchs_generator_alone() -> None:
    bare = embedder(**CONV)
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    assert not learns_from_views(bare)
    assert torch.equal(torch.rand(1), wanted)


def test_without_halves_there_is_one_head_for_all(pooled: Any) -> None:
    one, features, halves = pooled
    single = with_fitted_heads(one, features, None, seed=0)
    assert len(single.heads) == 1
    usable = np.ones((len(features), 1, 1), bool)
    first, second = (single.encode(features, usable, h) for h in (halves, 1 - halves))
    np.testing.assert_array_equal(first.recon_error, second.recon_error)


def test_the_same_seed_gives_the_same_heads_and_leaves_torchs_generator_alone(conv: Any) -> None:
    one, features, halves = conv
    torch.manual_seed(123)
    wanted = torch.rand(1)
    torch.manual_seed(123)
    again = with_fitted_heads(one, features, halves, seed=0)
    assert torch.equal(torch.rand(1), wanted)
    assert all(torch.equal(flat(a), flat(b)) for a, b in zip(again.heads, one.heads, strict=True))
    other = with_fitted_heads(one, features, halves, seed=1)
    assert not torch.equal(flat(other.heads[0]), flat(one.heads[0]))


@pytest.mark.parametrize("which", ["conv", "pooled"])
def test_a_tile_is_judged_by_the_head_of_its_half_and_embedded_by_the_first(which: str, request: pytest.FixtureRequest) -> None:
    one, features, halves = request.getfixturevalue(which)
    usable = np.ones((len(features), TILE, TILE), bool)
    encoded = one.encode(features, usable, halves)
    with torch.inference_mode():
        np.testing.assert_allclose(encoded.embedding, one.heads[0].encode(features).numpy(), rtol=1e-5, atol=1e-6)
        for half, head in enumerate(one.heads):
            mine = torch.from_numpy(np.flatnonzero(halves == half))
            errors = head.errors(features[mine], torch.from_numpy(usable)[mine])
            np.testing.assert_allclose(encoded.features[mine], head.rows(features[mine]).numpy(), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(encoded.recon_error[mine], errors.tile.numpy(), rtol=1e-4)
            if errors.pixel is not None:
                np.testing.assert_allclose(encoded.pixel_error[mine], errors.pixel.numpy(), rtol=1e-3, atol=1e-4)
    assert (encoded.pixel_error is None) == (which == "pooled")


@pytest.mark.parametrize("which", ["conv", "pooled"])
def test_a_reference_tile_is_seen_as_the_judge_that_refers_to_it_sees_it(which: str, request: pytest.FixtureRequest) -> None:
    one, features, halves = request.getfixturevalue(which)
    rows = one.reference_rows(features, halves)
    swapped = one.encode(features, np.ones((len(features), TILE, TILE), bool), 1 - halves)
    np.testing.assert_array_equal(rows["features"], swapped.features)
    np.testing.assert_array_equal(rows["embedding"], swapped.embedding)


def test_more_tiles_than_a_chunk_holds_are_encoded_like_few(pooled: Any) -> None:
    one, features, halves = pooled
    times = CHUNK_TILES // len(features) + 2
    many = one.encode(features.repeat(times, 1), np.ones((times * len(features), 1, 1), bool), np.tile(halves, times))
    few = one.encode(features, np.ones((len(features), 1, 1), bool), halves)
    np.testing.assert_allclose(many.embedding[-len(features) :], few.embedding, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(many.recon_error[: len(features)], few.recon_error, rtol=1e-4)


# Head files


@pytest.mark.parametrize("which", ["conv", "pooled"])
def test_a_head_file_gives_back_the_heads(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    one, features, halves = request.getfixturevalue(which)
    path = tmp_path / "head.safetensors"
    path.write_bytes(head_bytes(one.heads, one.backbone, one.settings))
    loaded = with_heads(one, load_heads(path, one.backbone, one.settings))
    usable = np.ones((len(features), TILE, TILE), bool)
    first, second = (e.encode(features, usable, halves) for e in (one, loaded))
    np.testing.assert_array_equal(first.embedding, second.embedding)
    np.testing.assert_array_equal(first.recon_error, second.recon_error)
    assert not any(p.requires_grad for head in loaded.heads for p in head.parameters())


@pytest.mark.parametrize(
    ("change", "key"),
    [({"dim": 5}, "dim"), ({"head": {"hidden": [9]}}, "hidden"), ({"backbone": "mobilenet_v3_small"}, "backbone|features")],
)
def test_a_head_file_refuses_other_settings(pooled: Any, tmp_path: Path, change: dict[str, Any], key: str) -> None:
    one, _, _ = pooled
    path = tmp_path / "head.safetensors"
    path.write_bytes(head_bytes(one.heads, one.backbone, one.settings))
    other = embedder(**{**POOLED, **change})
    with pytest.raises(ModelError, match=f"was made for ({key})"):
        load_heads(path, other.backbone, other.settings)


def test_files_that_are_no_head_files_are_model_errors(pooled: Any, tmp_path: Path) -> None:
    one, _, _ = pooled
    good = head_bytes(one.heads, one.backbone, one.settings)
    tensors = safetensors.torch.load(good)
    note = {"backbone": "resnet18", "dim": 4, "features": list(one.backbone.n_features), "heads": 2, "hidden": [128, 64]}
    bad = {
        "text": b"not a head",
        "cut": good[: len(good) // 2],
        "silent": safetensors.torch.save(tensors),
        "list": safetensors.torch.save(tensors, {"geoanom": "[1]"}),
        "broken": safetensors.torch.save(tensors, {"geoanom": "{"}),
        "none": safetensors.torch.save(tensors, {"geoanom": json.dumps({**note, "heads": 0})}),
        "many": safetensors.torch.save(tensors, {"geoanom": json.dumps({**note, "heads": 10**9})}),
        "hollow": safetensors.torch.save({"x": torch.zeros(1)}, {"geoanom": json.dumps(note)}),
    }
    for name, content in bad.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"is not a head file|its tensors are not"):
            load_heads(path, one.backbone, one.settings)
    with pytest.raises(ModelError, match="is not a head file"):
        load_heads(tmp_path / "absent", one.backbone, one.settings)


def test_a_backbones_weights_survive_as_bytes() -> None:
    one = embedder(**POOLED)
    torch.manual_seed(77)
    other = build_backbone(one.settings, N_BANDS, TILE)
    assert not torch.equal(flat(other), flat(one.backbone))
    load_backbone(other, backbone_bytes(one.backbone))
    assert torch.equal(flat(other), flat(one.backbone))


# Devices


def test_auto_is_a_device_that_is_there_and_the_cpu_always_is() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert describe_device(CPU).startswith("cpu, ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_is_refused_where_there_is_none() -> None:
    with pytest.raises(ConfigError, match="no CUDA device"):
        pick_device("cuda")
