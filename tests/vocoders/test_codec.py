"""The small codec: its network in pieces, what it may hear, its checkpoint, and the one that is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_codec
import torch
from torch import Tensor

from flowtts import checkpoint, registry
from flowtts.audio.io import read, resample
from flowtts.audio.mel import LogMel
from flowtts.codec import Codec, Pieces
from flowtts.types import VOICEBOX_MEL, UserError
from flowtts.vocoders.codec import load, load_network, save
from flowtts.vocoders.codec.network import State
from flowtts.vocoders.network_codec import NetworkCodec
from flowtts.voice import resolve


@pytest.fixture(scope="module")
def codec() -> NetworkCodec:
    return NetworkCodec("codec", tiny_codec.network())


def noise(count: int, seed: int = 0) -> Tensor:
    return torch.randn(2, count, generator=torch.Generator().manual_seed(seed)) * 0.1


def pieces(run: Pieces, whole: Tensor, sizes: tuple[int, ...]) -> Tensor:
    made, at, turn = [], 0, 0
    while at < whole.shape[1]:
        made.append(run.push(whole[:, at : at + sizes[turn % len(sizes)]]))
        at, turn = at + sizes[turn % len(sizes)], turn + 1
    return torch.cat([*made, run.finish()], 1)


def test_frames_and_lengths(codec: NetworkCodec) -> None:
    assert isinstance(codec, Codec)
    assert (codec.spec.frame_rate, codec.spec.hop_length, codec.spec.codebooks) == (50.0, 320, 3)
    for count, frames in ((1, 1), (320, 1), (321, 2), (3200, 10)):
        codes = codec.encode(noise(count))
        assert codes.shape == (2, frames, 3)
        assert codec.decode(codes).shape == (2, frames * 320)
        assert codec.decode(codes[..., :1]).shape == (2, frames * 320)
    assert codec.encode(noise(0)).shape == (2, 0, 3)
    assert codec.decode(torch.zeros(2, 0, 3, dtype=torch.long)).shape == (2, 0)


@pytest.mark.parametrize("sizes", [(1, 400), (320,), (100, 1, 5000), (9000,)])
def test_encoding_in_pieces_is_the_whole(codec: NetworkCodec, sizes: tuple[int, ...]) -> None:
    run = codec.encoding()
    for samples in (noise(8077), noise(320, 1), noise(5, 2)):
        assert torch.equal(pieces(run, samples, sizes), codec.encode(samples))


@pytest.mark.parametrize("sizes", [(1,), (1, 7), (40,)])
def test_decoding_in_pieces_is_the_whole(codec: NetworkCodec, sizes: tuple[int, ...]) -> None:
    run = codec.decoding()
    for samples in (noise(8077), noise(320, 1)):
        codes = codec.encode(samples)
        torch.testing.assert_close(pieces(run, codes, sizes), codec.decode(codes), rtol=0, atol=1e-5)


def test_one_frame_late_to_encode_and_15_ms_to_decode(codec: NetworkCodec) -> None:
    run = codec.encoding()
    assert [run.push(noise(320, i)).shape[1] for i in range(4)] == [0, 1, 1, 1]
    back = codec.decoding()
    frame = codec.encode(noise(320))
    assert [back.push(frame).shape[1] for _ in range(3)] == [80, 320, 320]


def test_state_is_bounded(codec: NetworkCodec) -> None:
    def sizes(state: State) -> list[int]:
        return [x.untyped_storage().nbytes() for x in state]

    network = codec.network
    state, after = None, None
    seen, heard = [], []
    for i in range(6):
        latents, state = network.stream_latents(noise(3200, i)[:, None], state)
        _, after = network.stream_samples(latents, after)
        seen.append(sizes(state))
        heard.append(sizes(after))
    assert seen[1] == seen[-1]
    assert heard[1] == heard[-1]


def test_hears_15_ms_of_what_follows_a_frame_and_no_more(codec: NetworkCodec) -> None:
    samples = noise(6400).requires_grad_()
    network = codec.network.requires_grad_(True)
    network.latents(samples[:, None])[0, 9].sum().backward()
    assert samples.grad is not None
    heard = samples.grad[0].nonzero()[:, 0]
    assert 3200 <= int(heard.max()) < 3200 + 240
    assert not samples.grad[1].any()
    latents = torch.randn(1, 20, 8, requires_grad=True)
    network.from_latents(latents)[0, 0, 10 * 320].backward()
    assert latents.grad is not None
    # The first samples of a frame are windowed from the frames of 15 ms before and after.
    heard = latents.grad[0].abs().sum(-1).nonzero()[:, 0]
    assert int(heard.max()) == 10
    network.requires_grad_(False)


def test_padded_is_alone(codec: NetworkCodec) -> None:
    samples = noise(6400)
    whole = codec.latents(samples)
    torch.testing.assert_close(codec.latents(samples[1:]), whole[1:], rtol=0, atol=1e-5)
    # What comes 15 ms later does not matter: a longer recording has the same frames but for the last.
    torch.testing.assert_close(codec.latents(samples[:, :3200])[:, :9], whole[:, :9], rtol=0, atol=1e-5)


def test_training_passes_some_items_unquantised() -> None:
    network = tiny_codec.network().train()
    samples = noise(3200)
    latents = network.encoder(samples)
    plain = network.decoder(latents)
    hits = 0
    for seed in range(40):
        network.load_state_dict(tiny_codec.network().state_dict())
        made, coded = network(samples, torch.Generator().manual_seed(seed))
        assert coded.ids.shape == (2, 10, 3)
        hits += sum(torch.allclose(made[i], plain[i], atol=1e-6) for i in range(2))
    # 80 draws with a chance of an eighth: 0 or more than 25 of them have a chance below 1e-4.
    assert 0 < hits < 25


def test_checkpoint_keeps_what_the_codec_is(tmp_path: Path) -> None:
    network = tiny_codec.network()
    folder = save(network, tmp_path / "made", dtype=torch.float32)
    assert not [name for name in checkpoint.load(folder).state if name.endswith(("sums", "counts", "idle"))]
    read_back = load(folder)
    codes = NetworkCodec("codec", network).encode(noise(3200))
    assert torch.equal(read_back.encode(noise(3200)), codes)
    assert torch.equal(read_back.decode(codes), NetworkCodec("codec", network).decode(codes))
    assert read_back.hash == checkpoint.load(folder).hash
    assert torch.equal(read_back.statistics()[1], network.std)
    assert load(folder, 2).spec.codebooks == 2
    with pytest.raises(UserError, match="take 1 to 3"):
        load(folder, 4)
    with pytest.raises(UserError, match="kind voicebox-duration, not codec"):
        load_network(checkpoint.SHIPPED / "voicebox-duration")


def test_registry_knows_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWTTS_CACHE", str(tmp_path / "cache"))
    assert registry.load_codec(tiny_codec.folder(tmp_path), 1).spec.codebooks == 1
    with pytest.raises(UserError, match="no codec 'codek': did you mean 'codec'"):
        registry.load_codec("codek")
    with pytest.raises(UserError, match="kind vocos, not"):
        registry.load_codec(checkpoint.SHIPPED / "vocos-16k")
    with pytest.raises(UserError, match="no weights of mimi are here: flowtts pull mimi"):
        registry.load_codec("mimi")


@pytest.fixture(scope="module")
def shipped() -> Codec:
    return registry.load_codec("codec")


def test_shipped_codec_keeps_to_what_it_promises(shipped: Codec) -> None:
    spec = shipped.spec
    assert spec.sample_rate == 16_000 and spec.frame_rate <= 50 and spec.codebooks <= 8
    folder = registry.codec_folder("codec")
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 12e6


@pytest.mark.parametrize("voice", ["reader-m", "reader-f"])
def test_more_codebooks_are_closer_to_speech(shipped: Codec, voice: str) -> None:
    audio = resample(read(resolve(voice, None)[0]).mono(), 16_000)
    samples = torch.from_numpy(audio.samples)[None]
    mel = LogMel(VOICEBOX_MEL)
    real = mel(samples)
    codes = shipped.encode(samples)
    apart = [
        float((mel(shipped.decode(codes[..., :count])[:, : samples.shape[1]]) - real).abs().mean())
        for count in (1, 2, 4, 8)
    ]
    assert apart == sorted(apart, reverse=True)
    # In deviations of a log-mel: other speech is about 1 away, silence more.
    assert apart[-1] < 0.3
