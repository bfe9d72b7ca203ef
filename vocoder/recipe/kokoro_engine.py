"""Runs Kokoro-82M's int8 ONNX graph: as it is, or, with OpenVINO, in float, faster and better.

Quantising activations anew in every layer costs the published int8 graph time and quality. The
other way computes in float and cuts the graph in three: text, prosody and source, the convolutions
of the iSTFTNet generator, where nearly all the time goes, and the inverse STFT. The convolutions
alone go to OpenVINO, in bfloat16 if asked for and the CPU has matrix units (AMX). That is fastest
but not without loss: on three sentences each of two voices, one thread, DistillMOS was 3.09 and
4.41 in bfloat16 (3.5 x real time), 4.24 and 4.52 in float32 (2.1 x), 3.99 and 4.50 as published
(2.0 x).
Durations come from the first part either way, so alignments keep full precision.

Kokoro (StyleTTS 2, Li et al. 2023) takes the two halves of a style vector for different things: the
first for how the voice sounds, the second for durations, pitch and energy. `steerable` gives the
first half, and a factor of the pitch, inputs of their own, so that one voice can speak with
another's timing: two recordings of the same content that run frame by frame alike.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

DURATION_OUTPUT = "/encoder/Clip_output_0"
AUDIO_OUTPUT = "audio"
TIMBRE_DIM = 128  # of the style's 256
TIMBRE_TENSOR = "/decoder/Slice_output_0"  # [1, 128]
PITCH_TENSOR = "/encoder/F0_proj/Conv_output_0"  # Hz, [1, 1, T]
AMX = "amx_bf16"  # the flag in /proc/cpuinfo
SHAPES_CACHED = 5000  # kernels are compiled for every length of utterance


@dataclass(frozen=True)
class Cut:
    """The tensors where the graph is cut, with their number of dimensions."""

    inner: dict[str, int]  # into the convolutions
    spectrum: tuple[str, int]  # out of them


KOKORO_CUT = Cut(
    inner={
        "/decoder/decoder/generator/Concat_3_output_0": 3,  # the source's spectra [1, 22, T]
        "/decoder/decoder/generator/LeakyRelu_output_0": 3,  # decoder output [1, 512, T']
        TIMBRE_TENSOR: 2,
    },
    spectrum=("/decoder/decoder/generator/conv_post/Conv_output_0", 3),
)


class Engine:
    """Speaks on one thread; in float if `prepare` has written the parts.

    With `bf16` a CPU that has matrix units computes the convolutions in bfloat16.
    """

    def __init__(self, model: Path, bf16: bool = False) -> None:
        front, convolutions, tail = parts = part_paths(model)
        self._convolutions: Any = None
        if has_openvino() and all(path.exists() for path in parts):
            self._front, self._tail = _onnxruntime(front), _onnxruntime(tail)
            self._convolutions = _openvino(convolutions, bf16 and has_amx())
        else:
            self._whole = _onnxruntime(model)

    def speak(
        self,
        tokens: Sequence[int],
        style: Floats,
        speed: float,
        timbre: Floats | None = None,
        pitch: float = 1.0,
    ) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Audio [S] at 24 kHz and durations [n + 2] in units of 25 ms of `tokens` [n].

        `style` [256] is the row of a voice that belongs to n. The durations begin and end with
        those of the padding. `timbre` [256] is the style of the voice to sound like, if another
        one, and `pitch` a factor; neither changes the durations.
        """
        sounds = style if timbre is None else timbre
        feed = {
            "tokens": np.array([[0, *tokens, 0]], dtype=np.int64),
            "style": style[None].astype(np.float32),
            "speed": np.array([speed], dtype=np.float32),
            "timbre": sounds[None, :TIMBRE_DIM].astype(np.float32),
            "pitch": np.array([pitch], dtype=np.float32),
        }
        if self._convolutions is None:
            audio, durations = self._whole.run([AUDIO_OUTPUT, DURATION_OUTPUT], feed)
        else:
            *inner, durations = self._front.run([*KOKORO_CUT.inner, DURATION_OUTPUT], feed)
            spectrum = self._convolutions(dict(zip(KOKORO_CUT.inner, inner, strict=True)))[0]
            (audio,) = self._tail.run([AUDIO_OUTPUT], {KOKORO_CUT.spectrum[0]: spectrum})
        return np.ravel(audio), np.ravel(durations).astype(np.int64)


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def has_amx() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware (known on Linux only)."""
    try:
        return AMX in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def steerable(model: Any) -> Any:
    """Add the inputs `timbre` [1, 128] and `pitch` [1] to Kokoro's graph, in place; returns it."""
    from onnx import TensorProto, helper

    graph = model.graph
    for name, shape in (("timbre", [1, TIMBRE_DIM]), ("pitch", [1])):
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for position, output in enumerate(node.output):
            if output == TIMBRE_TENSOR:
                node.output[position] = "timbre_of_style"
                nodes.append(helper.make_node("Identity", ["timbre"], [TIMBRE_TENSOR]))
            elif output == PITCH_TENSOR:
                node.output[position] = "pitch_of_style"
                nodes.append(helper.make_node("Mul", ["pitch_of_style", "pitch"], [PITCH_TENSOR]))
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def prepare(model: Path) -> None:
    """Write the three parts beside `model`, once, if OpenVINO can use them (0.3 GB)."""
    paths = part_paths(model)
    if not has_openvino() or all(path.exists() for path in paths):
        return
    import onnx

    graph = dequantize(onnx.load(str(model)))
    for path, part in zip(paths, split(graph, KOKORO_CUT), strict=True):
        temporary = path.with_suffix(".tmp")
        onnx.save(part, str(temporary))
        temporary.replace(path)


def split(model: Any, cut: Cut) -> tuple[Any, Any, Any]:
    """Cut an ONNX model: what leads to `cut.inner` and the durations, the middle, the audio."""
    from onnx import TensorProto, helper
    from onnx.utils import Extractor

    name, rank = cut.spectrum
    known = {value.name for value in model.graph.value_info}
    for tensor, dimensions in [*cut.inner.items(), (name, rank)]:
        if tensor not in known:
            shape = [None] * dimensions
            value = helper.make_tensor_value_info(tensor, TensorProto.FLOAT, shape)
            model.graph.value_info.append(value)
    extractor = Extractor(model)
    inputs = [value.name for value in model.graph.input]
    inner = list(cut.inner)
    return (
        extractor.extract_model(inputs, [*inner, DURATION_OUTPUT]),
        extractor.extract_model(inner, [name]),
        extractor.extract_model([name], [AUDIO_OUTPUT]),
    )


def dequantize(model: Any) -> Any:
    """Compute a dynamically quantised ONNX model in float, its weights being as quantised.

    Such a model computes `Cast(op(q(x), q(w)) [+ round(bias / scale)]) * scale`, where q(x) has a
    scale of its own. In place of each integer op stands the float op on x itself and w - zero, x's
    scale becomes 1, and biases are no longer rounded. The model is changed and returned.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    quantized = {
        node.output[0]: node for node in graph.node if node.op_type == "DynamicQuantizeLinear"
    }
    floats: dict[str, str] = {}  # quantised weight -> its float initializer
    sums: set[str] = set()  # outputs of the ops replaced
    scales: set[str] = set()
    nodes = []
    for node in graph.node:
        kind = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}.get(node.op_type)
        if kind is None or node.input[0] not in quantized or node.input[1] not in weights:
            nodes.append(node)
            continue
        source = quantized[node.input[0]]
        if node.input[1] not in floats:
            floats[node.input[1]] = node.input[1] + "_float"
            weight = numpy_helper.to_array(weights[node.input[1]]).astype(np.float32)
            if len(node.input) > 3 and node.input[3]:
                zero = numpy_helper.to_array(weights[node.input[3]]).astype(np.float32)
                per_channel = kind == "Conv" and zero.size > 1
                weight -= zero.reshape(-1, *[1] * (weight.ndim - 1)) if per_channel else zero
            graph.initializer.append(numpy_helper.from_array(weight, floats[node.input[1]]))
        made = helper.make_node(kind, [source.input[0], floats[node.input[1]]], node.output)
        made.attribute.extend(node.attribute)
        nodes.append(made)
        sums.update(node.output)
        scales.add(source.output[1])
    graph.initializer.append(numpy_helper.from_array(np.array(1, dtype=np.float32), "one"))
    producers = {output: node for node in nodes for output in node.output}
    for node in nodes:
        for position, tensor in enumerate(node.input):
            if tensor in scales and node.op_type != "DynamicQuantizeLinear":
                node.input[position] = "one"
        if node.op_type == "Add" and sums.intersection(node.input):
            bias = next(tensor for tensor in node.input if tensor not in sums)
            cast = _upstream(producers, bias, "Cast")
            division = _upstream(producers, cast.input[0], "Div")
            cast.input[0] = division.output[0]
            cast.attribute[0].i = TensorProto.FLOAT
    _keep_used(graph, nodes)
    return model


def _upstream(producers: dict[str, Any], tensor: str, kind: str) -> Any:
    """The nearest node of a kind that `tensor` comes from, along first inputs."""
    node = producers[tensor]
    while node.op_type != kind:
        node = producers[node.input[0]]
    return node


def _keep_used(graph: Any, nodes: list[Any]) -> None:
    """Make `nodes` the graph's, but for what nothing reads any more."""
    wanted = {tensor for node in nodes for tensor in node.input} | {o.name for o in graph.output}
    kept = [node for node in nodes if wanted.intersection(node.output)]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)
    wanted = {tensor for node in kept for tensor in node.input}
    initializers = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(initializers)


def part_paths(model: Path) -> tuple[Path, Path, Path]:
    """Where the three parts of a model lie."""
    names = ("front", "convolutions", "tail")
    front, convolutions, tail = (model.with_name(f"{model.stem}-{name}.onnx") for name in names)
    return front, convolutions, tail


def _onnxruntime(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _openvino(model: Path, bf16: bool) -> Any:
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": 1,
        "ENABLE_CPU_PINNING": False,  # else every process computes on the same core
        "CPU_RUNTIME_CACHE_CAPACITY": SHAPES_CACHED,
    }
    return core.compile_model(core.read_model(str(model)), "CPU", settings)
