"""Checksums of published weights, as their pages and others who use them state them.

Read on 2026-11-29 from the pages of the repositories (which name the SHA-256 of a large file), and
from public projects that pin the same file; most stand in both. None was computed here from the
weights themselves, but BYOL-A's of 512 columns. A revision is the commit that has the file, so that
what is downloaded cannot change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Sum(NamedTuple):
    """One file: its SHA-256, the revision of its repository, and its bytes, if they are known."""

    sha256: str
    revision: str = "main"
    size: int | None = None


_TORCH, _BIGVGAN = "pytorch_model.bin", "bigvgan_generator.pt"

SUMS: Mapping[str, Mapping[str, Sum]] = {
    "facebook/hubert-base-ls960": {
        _TORCH: Sum(
            "062249fffb353eab67547a2fbc129f7c31a2f459faf641b19e8fb007cc5c48ad",
            "dba3bb02fda4248b6e082697eee756de8fe8aa8a",
            377_569_754,
        )
    },
    "facebook/hubert-large-ll60k": {
        _TORCH: Sum(
            "45a299050945479a68cffe2ab7a63fd08931718ba18f05a42dbb86a5164178e0",
            "c094cc2898ae2b1383418570799c2ecbe14c0f79",
        )
    },
    "facebook/wav2vec2-base": {
        _TORCH: Sum(
            "3249fe98bfc62fcbc26067f724716a6ec49d12c4728a2af1df659013905dff21",
            "0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
            380_267_417,
        )
    },
    "microsoft/wavlm-base-plus": {
        _TORCH: Sum(
            "3bb273a6ace99408b50cfc81afdbb7ef2de02da2eab0234e18db608ce692fe51",
            "4c66d4806a428f2e922ccfa1a962776e232d487b",
            377_617_425,
        )
    },
    "microsoft/wavlm-large": {
        _TORCH: Sum(
            "fdee460e529396ddb2f8c8e8ce0ad74cfb747b726bc6f612e666c7c1e1963c9d",
            "c1423ed94bb01d80a3f5ce5bc39f6026a0f4828c",
            1_261_990_257,
        )
    },
    "nvidia/bigvgan_v2_44khz_128band_512x": {
        _BIGVGAN: Sum(
            "d9fe7ec6bd0b44ed9d66973d5012d8181c1570b01e5c72df51973e241dccd357",
            "95a9d1dcb12906c03edd938d77b9333d6ded7dfb",
            489_041_291,
        )
    },
    "nvidia/bigvgan_v2_24khz_100band_256x": {
        _BIGVGAN: Sum(
            "6f9c5715550c9d0f11159ceb8935638da5aeb19e27d1e63677632df095e376f5",
            "c329ede9e9bbc100ddf5c91e2330a61921262370",
        )
    },
    "nvidia/bigvgan_base_24khz_100band": {
        _BIGVGAN: Sum(
            "ca8bced4d3ef588e654742f732455c16abb004e49d7d3bf03edade84d3e982f2",
            "ec6b7350a2f6ebe55e3d6a9f1eb238130509332d",
        )
    },
    "nvidia/bigvgan_22khz_80band": {
        _BIGVGAN: Sum(
            "88a217b20d46f1607f1f7c298673d73ce0f20443ccc1e90b3cc9b776c6144f05",
            "a628d29c709b442509d8c383838e6d86d4f159ef",
        )
    },
    "nvidia/bigvgan_base_22khz_80band": {
        _BIGVGAN: Sum(
            "e2a93f92971e1b6750d8f9b701121597cd271e473e6c189c8072be7080047735",
            "d396d645eba09d1009fcf1ffb78f1680243a1440",
        )
    },
    "charactr/vocos-mel-24khz": {
        _TORCH: Sum(
            "97ec976ad1fd67a33ab2682d29c0ac7df85234fae875aefcc5fb215681a91b2a",
            "0feb3fdd929bcd6649e0e7c5a688cf7dd012ef21",
            54_365_991,
        )
    },
    "Wataru/ssl-vocoder": {
        "wavlm-large-l6.ckpt": Sum(
            "fe4645fbe351743ad5e757b6f08a59b7eb3dca602958f4b0e7f87d5a10e992e7"
        ),
        "wav2vec2-large-l6.ckpt": Sum(
            "ff0d7af222e4ec2acf46dd6973cec8fb1a16f0b4e7e5e0137461189f6a8d462c"
        ),
    },
    "nttcslab/byol-a": {
        "AudioNTT2020-BYOLA-64x96d512.pth": Sum(
            "6cc64226318494f06ef41d7e5810be7d37abfd6490da45abdab48f188c5332e2", size=2_410_576
        )
    },
}
