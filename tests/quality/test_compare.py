from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli

from scripts.common import json_files
from scripts.definitions.gates import EXPORT_GATES
from scripts.quality import compare, gates, reference
from scripts.quality.logits import GenaiModel
from scripts.results import base
from scripts.results.quality import Quality, Text
from tests import tiny
from tests.quality import damage
from tests.quality.conftest import convert

PROJECT = Path(__file__).parents[2]


def test_a_faithful_export_passes(export: Path, truth: Path) -> None:
    result = compare.run(export, truth, None, EXPORT_GATES)
    assert result.verdict == "passed"
    assert result.reasons == []
    assert result.kl < 1e-5
    assert result.top1 == 1.0
    assert result.perplexity_ratio == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("change", [damage.scale_one, damage.swap_layers, damage.wrong_rope])
def test_a_damaged_export_is_refused_with_figure_and_gate(
    export: Path, truth: Path, tmp_path: Path, change: Callable[[damage.Tensors], None]
) -> None:
    """By the gates that every build has, through the same door as a build."""
    damaged = damage.copy(export, tmp_path / "damaged", change)
    result = judged(tmp_path, "--onnx", damaged, "--reference", truth, "--gates", json.dumps(dict(EXPORT_GATES)))
    assert result.verdict == "refused"
    assert result.against == "checkpoint"
    assert result.kl_interval
    low, high = result.kl_interval
    assert 1e-3 < low < result.kl < high
    assert result.reasons[0] == f"facts: KL {result.kl:.4g} nats is above the gate of 0.001"
    assert result.reasons[1].startswith("facts: KL p99 ")


def test_a_slight_damage_shows_in_the_tail(export: Path, truth: Path, tmp_path: Path) -> None:
    broken = damage.copy(export, tmp_path / "damaged", damage.scale_one_a_little)
    assert compare.run(broken, truth, None, {"kl_p99": 5e-3}).verdict == "refused"
    assert compare.run(export, truth, None, {"kl_p99": 5e-3}).verdict == "passed"


def test_what_the_damage_is_done_with_does_none_itself(export: Path, truth: Path, tmp_path: Path) -> None:
    assert (
        compare.run(damage.copy(export, tmp_path / "same", damage.as_is), truth, None, EXPORT_GATES).verdict == "passed"
    )


def test_logits_that_are_not_numbers_are_refused_and_leave_no_figures(
    export: Path, truth: Path, tmp_path: Path
) -> None:
    result = compare.run(damage.copy(export, tmp_path / "nan", damage.not_a_number), truth, None, {})
    assert result.verdict == "refused"
    assert "NaN or infinite from position" in result.reasons[0]
    assert result.kl is None
    assert result.perplexity is None
    json.dumps(base.plain(result), allow_nan=False)


def test_a_recipe_that_is_too_coarse_is_refused_and_a_finer_one_is_not(
    export: Path, truth: Path, tmp_path: Path
) -> None:
    """Both are int4, made by the convert stage: one in blocks of 256 with a 4-bit head, one as the project has it."""
    coarse = {"bits": 4, "head_bits": 4, "block_size": 256, "symmetric": True, "algorithm": "rtn"}
    fine = tomli.loads((PROJECT / "config" / "recipes.toml").read_text("utf-8"))["int4"]["passes"][0]
    found = {}
    for name, options in (("coarse", coarse), ("fine", fine)):
        recipe = json.dumps({"target": "cpu", "passes": [{"type": "WeightOnlyQuantization", **options}]})
        folder = tmp_path / name / "onnx"
        folder.parent.mkdir()
        verb(0, "convert", "quantize", "--export", export, "--recipe", recipe, "--output", folder)
        arguments = ["--onnx", folder, "--reference", truth, "--export", export, "--gates", '{"kl": 0.01}']
        found[name] = judged(tmp_path / name, *arguments)
    assert found["coarse"].verdict == "refused"
    assert found["coarse"].kl_interval[0] > 0.01
    assert found["fine"].verdict == "passed"
    assert found["fine"].kl_interval[1] < 0.01
    assert found["fine"].against == "export"
    assert found["fine"].kl > 1e-5


def test_export_and_checkpoint_are_the_same_yardstick(truth: Path, export: Path, tmp_path: Path) -> None:
    coarse = damage.copy(export, tmp_path / "coarse", damage.round_coarsely)
    beside, before = compare.run(coarse, truth, export, {}), compare.run(coarse, truth, None, {})
    assert beside.kl == pytest.approx(before.kl, rel=1e-2)
    assert beside.perplexity == pytest.approx(before.perplexity, rel=1e-3)


def test_the_figures_are_those_of_the_textbook(truth: Path, export: Path, tmp_path: Path) -> None:
    coarse = damage.copy(export, tmp_path / "coarse", damage.round_coarsely)
    result = compare.run(coarse, truth, export, {}).texts["facts"]
    (text,) = reference.load(truth).texts
    p, q = (
        _softmax(np.concatenate(list(GenaiModel(folder).logits(text.tokens[:-1], 4096))).astype(np.float64))
        for folder in (export, coarse)
    )
    kl = (p * np.log(p / q)).sum(axis=1)
    best = np.sort(np.log(p), axis=1)
    sure = best[:, -1] - best[:, -2] > 0.1
    agree = p.argmax(axis=1) == q.argmax(axis=1)
    loss = -np.log(q[np.arange(len(q)), text.tokens[1:]])
    assert result.positions == len(text.tokens) - 1
    assert result.kl == pytest.approx(kl.mean(), rel=1e-3)
    assert result.kl_p99 == pytest.approx(np.quantile(kl, 0.99), rel=1e-3)
    assert result.top1_all == pytest.approx(agree.mean(), abs=1e-5)
    assert result.top1 == pytest.approx(agree[sure].mean(), abs=1e-5)
    assert result.perplexity == pytest.approx(np.exp(loss.mean()), rel=1e-3)


def test_a_graph_that_gives_the_last_position_only_is_measured_all_the_same(
    tiny_trained: Path, truth: Path, export: Path, tmp_path: Path
) -> None:
    pruned = convert(tiny_trained, tmp_path / "pruned", "fp32", "prune_lm_head=true")
    result = compare.run(pruned, truth, export, EXPORT_GATES)
    assert result.verdict == "passed"
    assert result.texts["facts"].positions == len(reference.load(truth).texts[0].tokens) - 1


def test_mapped_weights_are_read_once_for_many_rows(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fed, feed = list[int](), GenaiModel._feed

    def counted(self: GenaiModel, generation: Any, ids: Any) -> Any:
        fed.append(len(ids))
        return feed(self, generation, ids)

    monkeypatch.setattr(GenaiModel, "_feed", counted)
    ids = np.arange(40, dtype=np.int32) % 30
    mapped, packed = (list(GenaiModel(export, mapped=mapped).logits(ids, 16)) for mapped in (True, False))
    assert fed == [40, 16, 16, 8]
    assert [len(rows) for rows in mapped] == [len(rows) for rows in packed] == [16, 16, 8]
    assert np.concatenate(mapped) == pytest.approx(np.concatenate(packed), abs=1e-4)


def test_padding_of_the_vocabulary_is_left_out(truth: Path, export: Path, tmp_path: Path) -> None:
    wide = _widen(truth, tmp_path / "wide")
    result = compare.run(export, wide, None, EXPORT_GATES)
    assert result.verdict == "passed"
    assert result.vocabulary["float"] == result.vocabulary["compared"] + 64


def test_a_vocabulary_that_lost_words_is_refused(truth: Path, export: Path, tmp_path: Path) -> None:
    wide = _widen(truth, tmp_path / "wide", real=True)
    result = compare.run(export, wide, None, {})
    assert result.verdict == "refused"
    assert "vocabulary has" in result.reasons[0]


def test_every_family_is_exported_faithfully(
    tiny_qwen2: Path, tiny_phi3: Path, tiny_gemma: Path, text: Path, tmp_path: Path
) -> None:
    for name, checkpoint in (("qwen2", tiny_qwen2), ("phi3", tiny_phi3), ("gemma", tiny_gemma)):
        reference.build(checkpoint, {"facts": text}, tmp_path / name / "reference")
        onnx = convert(checkpoint, tmp_path / name / "onnx")
        assert compare.run(onnx, tmp_path / name / "reference", None, {"kl": 1e-5}).verdict == "passed", name


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    checkpoint = tiny.make_checkpoint(tmp_path / "wide" / "checkpoint", vocab=16_000, layers=1)
    onnx = convert(checkpoint, tmp_path / "wide" / "onnx")
    path = tmp_path / "long.txt"
    path.write_text(tiny.TEXT * 24, encoding="utf-8")
    peaks: dict[str, list[int]] = {"reference": [], "checkpoint": [], "export": []}
    for tokens in (500, 4000):  # two pieces, and sixteen: in float32 their logits differ by 224 MB
        truth, result = tmp_path / str(tokens), tmp_path / f"{tokens}.json"
        given = ["--checkpoint", checkpoint, "--text", path, "--tokens", tokens, "--output", truth]
        peaks["reference"].append(peak("reference", *given))
        given = ["--onnx", onnx, "--reference", truth, "--output", result]
        peaks["checkpoint"].append(peak("compare", *given))
        peaks["export"].append(peak("compare", *given, "--export", onnx))
        assert json_files.read(result)["texts"]["long"]["positions"] == tokens - 1
    grown = {name: (many - few) / 2**20 for name, (few, many) in peaks.items()}
    assert grown["reference"] < 130, grown  # malloc keeps some of the scratch that attention needs
    assert grown["checkpoint"] < 70, grown
    assert grown["export"] < 90, grown


def test_only_gates_that_are_given_refuse() -> None:
    bad = {"kl": 9.0, "kl_p99": 9.0, "top1": 0.1, "perplexity_ratio": 5.0}
    assert gates.judge({"text": _text(**bad)}, {}) == ("passed", [])
    assert gates.judge({"text": _text(**bad)}, {"kl_warn": 0.05})[0] == "warned"
    for name, value in (("kl", 0.25), ("kl_p99", 1.0), ("top1", 0.9), ("perplexity_ratio", 1.1)):
        verdict, (reason,) = gates.judge({"text": _text(**bad)}, {name: value})
        assert verdict == "refused"
        assert f"{bad[name]:.4g}" in reason
        assert f"{value:g}" in reason


def test_the_worst_text_decides() -> None:
    good = {"kl": 0.01, "kl_p99": 0.1, "top1": 1.0, "perplexity_ratio": 1.0}
    verdict, reasons = gates.judge(
        {"a": _text(**good), "b": _text(**good | {"kl": 0.3})}, {"kl": 0.25, "kl_warn": 0.05}
    )
    assert verdict == "refused"
    assert len(reasons) == 1
    assert reasons[0].startswith("b:")


@pytest.mark.parametrize(
    ("kl", "interval", "verdict"),
    [
        (0.10, [0.08, 0.12], "passed"),
        (0.24, [0.20, 0.28], "warned"),
        (0.26, [0.20, 0.32], "refused"),
        (0.30, [0.28, 0.32], "refused"),
    ],
)
def test_it_is_told_where_the_interval_spans_the_gate(kl: float, interval: list[float], verdict: str) -> None:
    found, reasons = gates.judge({"text": _text(kl=kl, kl_interval=interval)}, {"kl": 0.25})
    assert found == verdict
    spans = interval[0] < 0.25 < interval[1]
    told = f"but its 95 % interval, {interval[0]:g} to {interval[1]:g}, spans it"
    assert [told in reason for reason in reasons] == [spans] * (verdict != "passed")


def test_a_gate_from_below_is_spanned_from_below() -> None:
    text = {"top1": 0.92, "top1_interval": [0.88, 0.95], "perplexity_ratio": 1.0, "perplexity_ratio_interval": [1, 1]}
    verdict, (reason,) = gates.judge({"text": _text(**text)}, {"top1": 0.9, "perplexity_ratio": 1.05})
    assert verdict == "warned"
    assert "top-1 agreement 0.92 keeps to the gate of 0.9" in reason


def test_each_figure_and_its_interval_are_those_of_its_worst_text() -> None:
    other = {"kl_p99": 1.0, "top1_all": 0.5, "perplexity": 2.0, "perplexity_float": 2.0}
    texts = {
        "a": _text(**other | {"kl": 0.1, "kl_interval": [0.0, 0.2], "top1": 0.7, "top1_interval": [0.6, 0.8],
              "perplexity_ratio": 1.5, "perplexity_ratio_interval": [1.4, 1.6], "perplexity": 3.0}),
        "b": _text(**other | {"kl": 0.3, "kl_interval": [0.2, 0.4], "top1": None, "top1_interval": None,
              "perplexity_ratio": 1.1, "perplexity_ratio_interval": [1.0, 1.2], "kl_p99": 0.5}),
    }  # fmt: skip
    result = compare.worst(texts)
    assert (result["kl"], result["kl_interval"], result["kl_p99"]) == (0.3, [0.2, 0.4], 1.0)
    assert (result["top1"], result["top1_interval"]) == (0.7, [0.6, 0.8])
    assert (result["perplexity_ratio"], result["perplexity_ratio_interval"], result["perplexity"]) == (
        1.5,
        [1.4, 1.6],
        3.0,
    )
    assert set(compare.worst({"a": texts["a"], "c": _text(error="NaN")}).values()) == {None}


def _text(**figures: Any) -> Text:
    given: dict[str, Any] = dict.fromkeys(("kl", "top1", "perplexity_ratio")) | figures
    return Text(**given)


def _softmax(values: np.ndarray) -> np.ndarray:
    values = np.exp(values - values.max(axis=1, keepdims=True))
    shares: np.ndarray = values / values.sum(axis=1, keepdims=True)
    return shares


def _widen(truth: Path, folder: Path, *, real: bool = False) -> Path:
    """The same truth from a checkpoint whose head has 64 entries more: padding, or (`real`) tokens of its own."""
    shutil.copytree(truth, folder)
    index = json_files.read(folder / "index.json")
    index["vocab_size"] += 64
    if real:
        index["tokenizer_size"] = index["vocab_size"]
    json_files.write(folder / "index.json", index)
    for chunk in (folder / "facts").glob("0*.npy"):
        values = np.load(chunk)
        np.save(chunk, np.concatenate([values, np.full((len(values), 64), -30, np.float16)], axis=1))
    return folder


def verb(code: int, stage: str, *arguments: object) -> str:
    """Run a verb of a stage as a build does; returns its output, after it exited with `code`."""
    command = [sys.executable, "-m", f"scripts.{stage}", *map(str, arguments)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def judged(folder: Path, *arguments: object) -> Quality:
    """What `compare` writes. A refusal is a result: it exits 0."""
    output = folder / "quality.json"
    assert "quality: " in verb(0, "quality", "compare", *arguments, "--output", output)
    return base.read(output, Quality)


def peak(*arguments: object) -> int:
    """Run a verb in a process of its own; returns its peak resident memory in bytes.

    From VmHWM: getrusage's ru_maxrss begins at what the parent had when it forked.
    """
    code = (
        "import pathlib, runpy\n"
        "try:\n    runpy.run_module('scripts.quality', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print('PEAK', int(status.partition('VmHWM:')[2].split()[0]) * 1024)\n"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return int(done.stdout.rpartition("PEAK")[2])
