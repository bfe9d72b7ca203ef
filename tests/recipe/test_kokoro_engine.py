from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipe import kokoro_engine
from recipe.kokoro_engine import (
    AUDIO_OUTPUT,
    DURATION_OUTPUT,
    Cut,
    Engine,
    dequantize,
    has_openvino,
    prepare,
    split,
    steerable,
)

onnx = pytest.importorskip("onnx")
CUT = Cut(inner={"harmonics": 3, "decoded": 3, "style_part": 2}, spectrum=("post", 3))


@pytest.fixture(autouse=True)
def small_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names and sizes of the graph below instead of Kokoro's."""
    monkeypatch.setattr(kokoro_engine, "KOKORO_CUT", CUT)
    monkeypatch.setattr(kokoro_engine, "TIMBRE_TENSOR", "style_part")
    monkeypatch.setattr(kokoro_engine, "PITCH_TENSOR", "line")
    monkeypatch.setattr(kokoro_engine, "TIMBRE_DIM", 1)


RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.normal(size=(4, 2, 3)), RNG.normal(size=4)


def quantized() -> Any:
    """What onnxruntime's dynamic quantisation makes of a convolution, in a graph like Kokoro's."""
    from onnx import TensorProto, helper, numpy_helper

    scale = np.abs(WEIGHT).max() / 127
    node, constant = helper.make_node, numpy_helper.from_array
    weights = [
        constant(np.round(WEIGHT / scale + 128).clip(0, 255).astype(np.uint8), "w"),
        constant(np.array(128, dtype=np.uint8), "w_zero"),
        constant(np.array(scale, dtype=np.float32), "w_scale"),
        constant(BIAS.astype(np.float32).reshape(1, 4, 1), "bias"),
        constant(np.array([0, 1], dtype=np.int64), "axes"),
        constant(np.array([1, 1, -1], dtype=np.int64), "row"),
    ]
    nodes = [
        node("Cast", ["tokens"], ["numbers"], to=TensorProto.FLOAT),
        node("Mul", ["numbers", "speed"], [DURATION_OUTPUT]),
        node("Reshape", [DURATION_OUTPUT, "row"], ["line"]),
        node("Sin", ["line"], ["harmonics"]),
        node("Cos", ["line"], ["decoded"]),
        node("Identity", ["style"], ["style_part"]),
        node("Concat", ["harmonics", "decoded"], ["x"], axis=1),
        node("DynamicQuantizeLinear", ["x"], ["x_int", "x_scale", "x_zero"]),
        node("ConvInteger", ["x_int", "w", "x_zero", "w_zero"], ["sum"], pads=[1, 1]),
        node("Mul", ["x_scale", "w_scale"], ["scale"]),
        node("Div", ["bias", "scale"], ["bias_scaled"]),
        node("Floor", ["bias_scaled"], ["bias_whole"]),
        node("Cast", ["bias_whole"], ["bias_int"], to=TensorProto.INT32),
        node("Add", ["sum", "bias_int"], ["sum_biased"]),
        node("Cast", ["sum_biased"], ["sum_float"], to=TensorProto.FLOAT),
        node("Mul", ["sum_float", "scale"], ["conv"]),
        node("Add", ["conv", "style_part"], ["post"]),
        node("Tanh", ["post"], [AUDIO_OUTPUT]),
    ]
    value = helper.make_tensor_value_info
    inputs = [
        value("tokens", TensorProto.INT64, [1, None]),
        value("style", TensorProto.FLOAT, [1, 1]),
        value("speed", TensorProto.FLOAT, [1]),
    ]
    outputs = [value(name, TensorProto.FLOAT, None) for name in (AUDIO_OUTPUT, DURATION_OUTPUT)]
    graph = helper.make_graph(nodes, "kokoro", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def expected(tokens: list[int], style: float, speed: float) -> np.ndarray:
    line = np.array([0, *tokens, 0]) * speed
    padded = np.pad(np.stack([np.sin(line), np.cos(line)]), ((0, 0), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=1)
    return np.tanh(np.einsum("oik,itk->ot", WEIGHT, windows) + BIAS[:, None] + style).ravel()


def test_dequantized_graph_computes_in_float() -> None:
    from onnx.reference import ReferenceEvaluator

    graph = dequantize(quantized())
    kinds = {node.op_type for node in graph.graph.node}
    assert not kinds & {"DynamicQuantizeLinear", "ConvInteger", "Floor"}
    feed = {
        "tokens": np.array([[0, 3, 5, 0]]),
        "style": np.array([[0.25]], dtype=np.float32),
        "speed": np.array([1.5], dtype=np.float32),
    }
    audio = ReferenceEvaluator(graph).run([AUDIO_OUTPUT], feed)[0]
    # Only the weights' rounding is left, half a step for each of six taps.
    step = np.abs(WEIGHT).max() / 127
    assert np.abs(audio.ravel() - expected([3, 5], 0.25, 1.5)).max() < 6 * step / 2
    parts = split(graph, CUT)
    sizes = [len(part.graph.node) for part in parts]
    assert sum(sizes) == len(graph.graph.node)
    assert [i.name for i in parts[1].graph.input] == list(CUT.inner)


@pytest.mark.parametrize("fast", [False, True])
def test_the_engine_speaks_either_way(
    fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    if fast:
        pytest.importorskip("openvino")
    monkeypatch.setattr(kokoro_engine, "has_openvino", lambda: fast)
    model = tmp_path / "model.onnx"
    onnx.save(steerable(quantized()), str(model))
    prepare(model)
    assert len(list(tmp_path.iterdir())) == (4 if fast else 1)
    engine = Engine(model)
    audio, durations = engine.speak([3, 5, 2], np.array([0.25], dtype=np.float32), 1.0)
    assert durations.tolist() == [0, 3, 5, 2, 0]
    assert audio == pytest.approx(expected([3, 5, 2], 0.25, 1.0), abs=0.06)
    # Another voice and pitch, and the same durations.
    other = np.array([-0.5], dtype=np.float32)
    audio, durations = engine.speak([3, 5, 2], np.array([0.25], dtype=np.float32), 1.0, other, 1.5)
    assert durations.tolist() == [0, 3, 5, 2, 0]
    assert audio == pytest.approx(expected([3, 5, 2], -0.5, 1.5), abs=0.06)


def test_without_openvino_nothing_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert not has_openvino()
    prepare(tmp_path / "model.onnx")  # is not even read
    assert not list(tmp_path.iterdir())
