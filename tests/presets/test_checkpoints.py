"""Published files: downloading them against a server on loopback, and reading their formats."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from knnvc.errors import KnnvcError, UsageError
from knnvc.presets import checkpoints
from knnvc.presets.checkpoints import (
    REGISTRY,
    RemoteFile,
    cache_dir,
    download,
    fold_weight_norm,
    pack,
    parse_conv_layers,
    read_json,
    read_pickle,
    read_published_hifigan,
    read_published_wavlm,
    read_tensors,
    write_tensors,
)

PARITY = Path(__file__).parents[1] / "assets" / "parity"
CONTENT = bytes(range(256)) * 4000  # more than the sockets buffer


def sentence(error: BaseException) -> str:
    """Return the message, after making sure that it is one line."""
    text = str(error)
    assert text
    assert "\n" not in text
    return text


# Download ---------------------------------------------------------------------------------------


@dataclass
class Server:
    """What the loopback server does, and which Range headers it was sent."""

    url: str = ""
    ranges: list[str | None] = field(default_factory=list)
    stop_after: int | None = None  # close the connection after so many bytes of the body
    honour_range: bool = True
    send_length: bool = True
    status: int = 200
    wrong_range: bool = False


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            if state.status != 200:
                self.send_error(state.status)
                return
            start = 0
            if asked and state.honour_range:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(CONTENT):
                    self.send_error(416)
                    return
                claimed = 0 if state.wrong_range else start
                self.send_response(206)
                last = len(CONTENT) - 1
                self.send_header("Content-Range", f"bytes {claimed}-{last}/{len(CONTENT)}")
            else:
                self.send_response(200)
            body = CONTENT[start:]
            if state.send_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client may have heard enough
                self.wfile.write(body if state.stop_after is None else body[: state.stop_after])

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        state.url = f"http://127.0.0.1:{httpd.server_address[1]}/weights.pt"
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            httpd.shutdown()
            thread.join()


def remote_for(server: Server, **changes: Any) -> RemoteFile:
    remote = RemoteFile(
        name="weights.pt",
        url=server.url,
        size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        licence="MIT",
    )
    return replace(remote, **changes)


def test_download_succeeds_and_is_not_repeated(server: Server, tmp_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    folder = tmp_path / "new" / "cache"
    remote = remote_for(server)
    path = download(remote, folder, progress=lambda done, total: steps.append((done, total)))
    assert path == folder / "weights.pt"
    assert path.read_bytes() == CONTENT
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert list(folder.iterdir()) == [path]
    assert download(remote, folder) == path
    assert server.ranges == [None]


def test_cut_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.stop_after = 300_000
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server), tmp_path)
    message = sentence(caught.value)
    assert f"cut after 300000 of {len(CONTENT)} bytes" in message
    assert str(tmp_path / "weights.pt") in message
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt.part"]

    server.stop_after = None
    steps: list[int] = []
    path = download(remote_for(server), tmp_path, progress=lambda done, _: steps.append(done))
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]
    assert steps[0] > 300_000  # progress counts what was there before


@pytest.mark.parametrize("how", ["honour_range", "wrong_range"])
def test_server_that_cannot_resume_starts_over(server: Server, tmp_path: Path, how: str) -> None:
    (tmp_path / "weights.pt.part").write_bytes(CONTENT[:1000])
    setattr(server, how, how == "wrong_range")
    assert download(remote_for(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges[0] == "bytes=1000-"


def test_part_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "weights.pt.part"
    part.write_bytes(CONTENT + b"more")
    assert download(remote_for(server), tmp_path).read_bytes() == CONTENT
    part.write_bytes(CONTENT + b"more")
    (tmp_path / "weights.pt").unlink()
    unknown_size = remote_for(server, size=None)
    assert download(unknown_size, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={len(CONTENT) + 4}-", None]


def test_whole_part_is_taken_without_asking(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.pt.part").write_bytes(CONTENT)
    assert download(remote_for(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == []


def test_length_need_not_be_known(server: Server, tmp_path: Path) -> None:
    server.send_length = False
    totals: set[int | None] = set()
    remote = remote_for(server, size=None)
    path = download(remote, tmp_path, progress=lambda _, total: totals.add(total))
    assert path.read_bytes() == CONTENT
    assert totals == {None}


def test_wrong_hash_removes_the_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server, sha256="0" * 64), tmp_path)
    assert "is not the published weights.pt (sha256" in sentence(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_wrong_size_is_refused_before_the_download(server: Server, tmp_path: Path) -> None:
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server, size=10_000_000), tmp_path)
    assert f"offers {len(CONTENT)} bytes and not the 10000000" in sentence(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_wrong_file_put_there_by_hand_is_named_and_kept(server: Server, tmp_path: Path) -> None:
    placed = tmp_path / "weights.pt"
    placed.write_bytes(CONTENT[::-1])
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server), tmp_path)
    assert str(placed) in sentence(caught.value)
    assert "delete it" in str(caught.value)
    assert placed.exists()
    assert server.ranges == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_that_fills_up(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.pt.part").symlink_to("/dev/full")  # every write there is ENOSPC
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server), tmp_path)
    assert "the disk is full" in sentence(caught.value)
    assert not (tmp_path / "weights.pt").exists()


def test_disk_too_full_from_the_start(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        total: int = 10_000
        used: int = 9_000
        free: int = 1_000

    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage())
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server), tmp_path)
    assert "free 2 MB more" in sentence(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_offline_says_which_file_goes_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/WavLM-Large.pt"
        remote = REGISTRY["WavLM-Large.pt"]
        with pytest.raises(KnnvcError) as caught:
            download(remote, tmp_path, url=url, timeout=5)
    message = sentence(caught.value)
    assert "refused" in message
    assert remote.url in message
    assert f"put it there as {tmp_path / 'WavLM-Large.pt'}" in message
    assert list(tmp_path.iterdir()) == []


def test_missing_page_is_one_sentence(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server), tmp_path)
    assert "the server answered 404" in sentence(caught.value)


def test_server_that_hangs_up_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        remote = RemoteFile("x", url, None, None, "MIT")
        with pytest.raises(KnnvcError) as caught:
            download(remote, tmp_path, timeout=5)
        thread.join()
    assert "cannot download" in sentence(caught.value)


def test_folder_that_is_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server), tmp_path / "cache")
    assert "cannot write" in sentence(caught.value)


# Registry ---------------------------------------------------------------------------------------


def test_registry_states_what_is_known() -> None:
    wavlm, vocoder = REGISTRY["WavLM-Large.pt"], REGISTRY["prematch_g_02500000.pt"]
    assert wavlm.size == 1_261_965_425
    assert vocoder.size is None
    for remote in REGISTRY.values():
        assert remote.url.startswith("https://")
        renamed = "under another name" in remote.note
        assert remote.url.endswith("/" + remote.name) != renamed
        if remote.sha256 is None:
            # Nobody published it: the note says so, and that such a file cannot do harm.
            assert renamed or "Neither size nor sha256 is published" in remote.note
        else:
            assert len(bytes.fromhex(remote.sha256)) == 32
        assert remote.licence
    assert "one third-party source" in vocoder.note


def test_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KNNVC_CACHE", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "knnvc"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "knnvc"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_dir() == Path.home() / "Library" / "Caches" / "knnvc"
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"


def test_registry_needs_no_torch() -> None:
    code = (
        "import sys, knnvc.presets.preset as p; p.list_presets(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Pickles ----------------------------------------------------------------------------------------


class Bomb:
    """Unpickled without protection, this makes the file `target`."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_with_code_is_refused(tmp_path: Path, zipped: bool) -> None:
    path, mark = tmp_path / "bomb.pt", tmp_path / "exploded"
    content = {"generator": {"x": torch.zeros(1), "y": Bomb(mark)}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(KnnvcError, match="carries code") as caught:
        read_pickle(path)
    sentence(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"hello world", b"<html>log in</html>", b"\x80\x04\x95"])
def test_damaged_pickle_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    with pytest.raises(KnnvcError, match="damaged") as caught:
        read_pickle(path)
    sentence(caught.value)


def test_truncated_pickle_and_wrong_content(tmp_path: Path) -> None:
    whole = (PARITY / "hifigan_tiny.pt").read_bytes()
    path = tmp_path / "part.pt"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(KnnvcError, match="damaged"):
        read_pickle(path)
    torch.save([1, 2], path)
    with pytest.raises(KnnvcError, match="no dict"):
        read_pickle(path)
    with pytest.raises(UsageError, match="there is no file"):
        read_pickle(tmp_path / "nowhere.pt")
    with pytest.raises(UsageError, match="is a folder"):
        read_pickle(tmp_path)


# safetensors and JSON ---------------------------------------------------------------------------


def test_tensors_round_trip_even_when_they_share_memory(tmp_path: Path) -> None:
    base = torch.randn(4, 6)
    tensors = {
        "whole": base,
        "columns": base[:, ::2],
        "rows": base[1:3],
        "row_of_another": torch.randn(5, 2)[2:4],
        "half": base.half(),
        "count": torch.arange(3),
        "nothing": torch.zeros(0, 4),
    }
    path = tmp_path / "new" / "x.safetensors"
    write_tensors(path, tensors, {"speaker": "Ada"})
    read, metadata = read_tensors(path)
    assert metadata == {"speaker": "Ada"}
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_packed_weights_come_back_nearly_the_same(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        "matrix": torch.randn(64, 80, generator=generator) * torch.logspace(-3, 1, 64)[:, None],
        "kernel": torch.randn(32, 16, 9, generator=generator),
        "empty": torch.zeros(64, 80),
        "bias": torch.randn(80, generator=generator),
        "small": torch.randn(4, 4, generator=generator),
    }
    path = tmp_path / "w.safetensors"
    write_tensors(path, pack(weights), {"steps": "1"})
    found, metadata = read_tensors(path)
    assert metadata == {"steps": "1"}
    assert found.keys() == weights.keys()
    for name in ("matrix", "kernel", "empty"):
        largest = weights[name].flatten(1).abs().amax(1)
        off = (found[name] - weights[name]).flatten(1).abs().amax(1)
        assert (off <= largest / 253).all()
    for name in ("bias", "small"):
        assert torch.equal(found[name], weights[name].half())
    assert path.stat().st_size < 1.2 * sum(w.numel() for w in weights.values()) + 2000


def test_a_scale_without_its_tensor_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"lost:scale": torch.ones(1)})
    with pytest.raises(KnnvcError, match="safetensors"):
        read_tensors(path)


def test_written_tensors_are_as_readable_as_other_files(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"x": torch.zeros(1)})
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_existing_tensors_are_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": torch.zeros(1)})
    with pytest.raises(UsageError, match="--force"):
        write_tensors(path, {"x": torch.ones(1)}, force=False)
    assert read_tensors(path)[0]["x"] == 0
    write_tensors(path, {"x": torch.ones(1)})
    assert read_tensors(path)[0]["x"] == 1


@pytest.mark.parametrize("content", [b"", b"not tensors at all", b"\xff" * 64])
def test_damaged_tensors_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(KnnvcError, match="damaged") as caught:
        read_tensors(path)
    sentence(caught.value)


def test_truncated_tensors_and_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(KnnvcError, match="damaged"):
        read_tensors(path)
    with pytest.raises(UsageError, match="there is no file"):
        read_tensors(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_json_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(KnnvcError) as caught:
        read_json(path)
    assert str(path) in sentence(caught.value)


# Published formats ------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [0, 1, 2, None])
def test_folding_equals_torch(dim: Any) -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(4, 6, 5)
    parametrized: Any = weight_norm(conv, dim=dim)
    with torch.no_grad():
        parametrized.parametrizations.weight.original0.mul_(1.7)
    state = {f"a.{name}": tensor for name, tensor in parametrized.state_dict().items()}
    folded = fold_weight_norm(state)
    assert set(folded) == {"a.weight", "a.bias"}
    torch.testing.assert_close(folded["a.weight"], parametrized.weight)
    old = {
        "a.bias": state["a.bias"],
        "a.weight_g": state["a.parametrizations.weight.original0"],
        "a.weight_v": state["a.parametrizations.weight.original1"],
    }
    assert torch.equal(fold_weight_norm(old)["a.weight"], folded["a.weight"])


@pytest.mark.parametrize(
    "state",
    [
        {"a.weight_g": torch.ones(2, 1)},
        {"a.weight_v": torch.ones(2, 3)},
        {"a.weight_g": torch.ones(5, 1), "a.weight_v": torch.ones(2, 3)},
        {"a.weight_g": torch.ones(2), "a.weight_v": torch.ones(2, 3)},
    ],
)
def test_broken_pairs_are_damage(state: dict[str, Tensor]) -> None:
    with pytest.raises(KnnvcError, match="damaged"):
        fold_weight_norm(state)


def test_wavlm_layers_equal_published() -> None:
    from transformers import WavLMConfig, WavLMModel

    config, state = read_published_wavlm(PARITY / "wavlm_tiny.pt")
    model: Any = WavLMModel(WavLMConfig(**config))
    model.load_state_dict(state, strict=True)
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    model.eval()
    expected = load_file(PARITY / "expected.safetensors")
    # What a layer itself returns: transformers normalises its last hidden state once more.
    raw: dict[int, Tensor] = {}
    for layer in (1, 6, 8):

        def keep(_module: nn.Module, _args: Any, output: Any, layer: int = layer) -> None:
            raw[layer] = output[0][0]

        model.encoder.layers[layer - 1].register_forward_hook(keep)
    with torch.inference_mode():
        model(expected["waveform"][None])
    for layer, features in raw.items():
        assert features.shape == (99, 96)
        assert (features - expected[f"layer_{layer}"]).abs().max() < 1e-5
    assert set(raw) == {1, 6, 8}


def test_half_precision_and_training_heads_are_read(tmp_path: Path) -> None:
    content = read_pickle(PARITY / "wavlm_tiny.pt")
    content["model"] = {name: tensor.half() for name, tensor in content["model"].items()}
    content["model"]["final_proj.weight"] = torch.zeros(2, 2)
    torch.save(content, tmp_path / "half.pt")
    _, state = read_published_wavlm(tmp_path / "half.pt")
    _, expected = read_published_wavlm(PARITY / "wavlm_tiny.pt")
    assert set(state) == set(expected)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extractor_mode": "other"}, "extractor_mode"),
        ({"activation_fn": "glu"}, "activation_fn"),
        ({"gru_rel_pos": False}, "gru_rel_pos is off"),
        ({"conv_feature_layers": "__import__('os').mkdir('x')"}, "conv_feature_layers"),
        ({"encoder_layers": "many"}, "many"),
        ({"num_buckets": None}, "cannot be used"),
    ],
)
def test_unusable_wavlm_config_is_one_sentence(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    content = read_pickle(PARITY / "wavlm_tiny.pt")
    content["cfg"].update(change)
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(KnnvcError) as caught:
        read_published_wavlm(tmp_path / "x.pt")
    assert words in sentence(caught.value)


def test_other_checkpoints_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(KnnvcError, match="no 'cfg' and 'model'"):
        read_published_wavlm(PARITY / "hifigan_tiny.pt")
    with pytest.raises(KnnvcError, match="no 'generator'"):
        read_published_hifigan(PARITY / "wavlm_tiny.pt", {})
    content = read_pickle(PARITY / "wavlm_tiny.pt")
    del content["cfg"]["conv_pos"]
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(KnnvcError, match="no 'conv_pos'"):
        read_published_wavlm(tmp_path / "x.pt")
    content = read_pickle(PARITY / "wavlm_tiny.pt")
    content["model"]["w2v_encoder.proj.weight"] = torch.zeros(1)
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(KnnvcError, match=r"does not have \(w2v_encoder"):
        read_published_wavlm(tmp_path / "x.pt")
    torch.save({"generator": {"lin_pre.weight": "text"}}, tmp_path / "x.pt")
    with pytest.raises(KnnvcError, match="something else than tensors"):
        read_published_hifigan(tmp_path / "x.pt", {})


def test_hifigan_is_read_folded_with_its_config() -> None:
    config, state = read_published_hifigan(PARITY / "hifigan_tiny.pt", PARITY / "hifigan_tiny.json")
    assert config["hubert_dim"] == 96
    assert not any("weight_g" in name or "weight_v" in name for name in state)
    assert state["conv_pre.weight"].shape == (64, 48, 7)
    assert read_published_hifigan(PARITY / "hifigan_tiny.pt", config)[0] == config


def test_conv_layers_are_parsed_not_run() -> None:
    large = parse_conv_layers("[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2")
    assert large == [(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2
    assert parse_conv_layers("[[8, 4, 2], (8, 2, 2)]") == [(8, 4, 2), (8, 2, 2)]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "[]",
        "[(1, 2)]",
        "[(1, 2, -3)]",
        "[(1, 2, 3.0)]",
        "[(1, 2, True)]",
        "[(1, 2, 3)] * 10**9",
        "[(1, 2, 3)] * 1000000000",
        "[(1, 2, 3)] - [(1, 2, 3)]",
        "[tuple(open('/etc/passwd'))]",
        "(lambda: [(1, 2, 3)])()",
        "[(1, 2, 3) for _ in ()]",
        "(" * 500,
    ],
)
def test_anything_but_triples_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="conv_feature_layers"):
        parse_conv_layers(expression)


def test_safetensors_failure_to_write_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise safetensors.SafetensorError("No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(KnnvcError) as caught:
        checkpoints.write_tensors(tmp_path / "x.safetensors", {"x": torch.zeros(1)})
    assert "No space left" in sentence(caught.value)
    assert list(tmp_path.iterdir()) == []
