"""Sequences: what a mean and a convolution over time are, in numbers that one can check."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.load import deciding_settings
from primia_flwr.errors import ConfigError
from primia_flwr.models.architectures.sequence import SequenceNet
from primia_flwr.models.layers.frames import PerFrame, apart, frames_of, together
from primia_flwr.models.registry import build_model
from primia_flwr.pipeline.first_model import check_outputs


def built(temporal: str, *, frames: int = 5, norm: str = "batch") -> SequenceNet:
    cfg = ModelConfig(name="sequence", temporal=temporal, norm=norm)
    model = build_model(cfg, outputs=3, channels=frames, seed=0)
    assert isinstance(model, SequenceNet)
    return model.eval()


def of_single_frames(model: SequenceNet) -> SequenceNet:
    """Return the same network of a frame, and a classifier of one frame's features."""
    single = SequenceNet(ModelConfig(name="sequence"), 3, 1).eval()
    single.frame.load_state_dict(model.frame.state_dict())
    return single


def noise(frames: int = 5) -> Tensor:
    return torch.rand(4, frames, 16, 16, generator=torch.Generator().manual_seed(1))


def test_frames_of_a_sequence_are_neighbours() -> None:
    sequences = torch.arange(12.0).reshape(2, 3, 1, 2)
    assert apart(sequences, 3)[:, 0, 0].tolist() == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
        [8, 9],
        [10, 11],
    ]
    assert torch.equal(together(apart(sequences, 3)[:, 0, 0], 3), sequences.transpose(1, 2))


def test_a_mean_is_the_mean_of_the_frames_logits() -> None:
    model, images = built("mean"), noise()
    single = of_single_frames(model)
    single.classifier.load_state_dict(model.classifier.state_dict())
    with torch.no_grad():
        votes = torch.stack([single(images[:, [t]]) for t in range(5)])
        assert votes.std(dim=0).min() > 0
        torch.testing.assert_close(model(images), votes.mean(dim=0))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_delta_in_the_middle_of_the_kernel_picks_a_frame(position: int) -> None:
    """Three frames in a row, of which the second is taken, at the place that the weights read."""
    model, images = built("conv"), noise()
    single, convolution = of_single_frames(model), model.temporal[1]
    assert isinstance(convolution, nn.Conv2d)
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[range(64), 0, 1, range(64)] = 1.0  # a feature is not negative
        convolution.bias.zero_()
        by_place = model.classifier.weight.view(3, 64, 3).zero_()
        by_place[:, :, position] = single.classifier.weight
        model.classifier.bias.copy_(single.classifier.bias)
        torch.testing.assert_close(model(images), single(images[:, [position + 1]]))


def test_a_convolution_tells_what_changes_and_a_mean_does_not() -> None:
    images = noise()
    with torch.no_grad():
        backwards = [built(temporal)(images.flip(1)) for temporal in ("mean", "conv")]
        torch.testing.assert_close(backwards[0], built("mean")(images))
        assert (backwards[1] - built("conv")(images)).abs().max() > 1e-3


@pytest.mark.parametrize(("temporal", "count"), [("mean", 56_099), ("conv", 68_835)])
def test_parameters_by_hand(temporal: str, count: int) -> None:
    frame = 9 * 32 + 9 * 32 * 64 + 9 * 64 * 64 + 2 * (32 + 64 + 64)
    time = {"mean": 64 * 3 + 3, "conv": 3 * 64 * 64 + 64 + 3 * 64 * 3 + 3}[temporal]
    assert frame + time == count
    assert sum(p.numel() for p in built(temporal).parameters()) == count


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("frames", [2, 3, 16])
def test_any_number_of_frames_and_any_norm(frames: int, norm: str) -> None:
    for temporal in ("mean", "conv"):
        model = built(temporal, frames=frames, norm=norm)
        assert model(noise(frames)).shape == (4, 3)


def test_layers_of_a_frame_see_as_many_rows_as_there_are_frames() -> None:
    model = built("conv", frames=3)
    rows = frames_of(model)
    assert {rows.get(layer, 1) for layer in model.frame.modules()} == {3}
    assert model.classifier not in rows
    assert isinstance(model.frame, PerFrame)


def test_another_number_of_frames_is_refused() -> None:
    with pytest.raises(ConfigError, match="sequences of 4 frames; expected 5"):
        built("mean")(noise(4))


def test_a_model_of_too_many_frames_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.frames=65; expected"):
        build_model(ModelConfig(name="sequence"), outputs=2, channels=65)


def test_a_model_of_single_images_has_no_five_channels() -> None:
    with pytest.raises(ConfigError, match=r"data.channels=5; expected one of 1, 3"):
        build_model(ModelConfig(name="simpleconv"), outputs=2, channels=5)


def test_an_lstm_is_refused_with_the_reason() -> None:
    with pytest.raises(
        ConfigError, match="temporal=lstm; expected mean or conv: an encrypted LSTM"
    ):
        ModelConfig(name="sequence", temporal="lstm")
    with pytest.raises(ConfigError, match=r"temporal=means; .*did you mean mean"):
        ModelConfig(name="sequence", temporal="means")


def test_frames_are_channels_and_grey() -> None:
    assert DataConfig(frames=5).channels == 5
    assert DataConfig(frames=5, channels=5).channels == 5  # as a run's own configuration has it
    with pytest.raises(
        ConfigError, match=r"frames=5 with data.channels=3; expected data.channels=1"
    ):
        DataConfig(frames=5, channels=3)
    with pytest.raises(ConfigError, match="channels=5; expected one of 1, 3"):
        DataConfig(channels=5)
    with pytest.raises(ConfigError, match=r"frames=65; expected a number of at least 1 and"):
        DataConfig(frames=65)
    with pytest.raises(ConfigError, match=r"frames=64 with data.image_size=512; expected at most"):
        DataConfig(frames=64, task="segmentation", image_size=512)  # four times 2048 x 2048
    assert DataConfig(frames=64, task="segmentation", image_size=256).channels == 64


def test_data_and_model_must_agree_on_sequences() -> None:
    with pytest.raises(
        ConfigError, match=r"frames=5 with model.name=resnet18; expected a model that"
    ):
        Experiment(data=DataConfig(frames=5))
    asked = Experiment(data=DataConfig(channels=3), model=ModelConfig(name="sequence"))
    with pytest.raises(ConfigError, match=r"frames=1 with model.name=sequence"):
        check_outputs(asked)


def test_an_experiment_without_sequences_is_the_one_that_it_was() -> None:
    plain = deciding_settings(Experiment())
    assert plain["data"]["volumes"] == {"window": [], "slices": "all"}
    assert "frames" not in plain["data"]
    assert "temporal" not in plain["model"]
    of_five = Experiment(data=DataConfig(frames=5), model=ModelConfig(name="sequence"))
    assert deciding_settings(of_five)["data"]["frames"] == 5
