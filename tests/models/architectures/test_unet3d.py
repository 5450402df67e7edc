"""The 3-D U-Net: slices in, classes of their voxels side by side, and what it has no form of."""

import pytest
import torch

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.load import compose, parse
from primia_flwr.errors import ConfigError
from primia_flwr.models import build_model
from primia_flwr.pipeline.first_model import check_outputs


def built(norm="group", outputs=2, slices=8):
    cfg = ModelConfig(name="unet3d", norm=norm, norm_groups=8)
    return build_model(cfg, outputs=outputs, channels=slices, seed=0)


def test_classes_of_slices_stand_side_by_side():
    """The head alone, on a volume whose voxels say where they are."""
    model = built(outputs=1, slices=4).eval()
    kept = []
    model.head.register_forward_hook(lambda _m, _i, out: kept.append(out))
    with torch.no_grad():
        found = model(torch.rand(1, 4, 16, 20))
    (volume,) = kept
    assert volume.shape == (1, 1, 4, 16, 20)
    assert found.shape == (1, 1, 16, 80)
    for z in range(4):
        assert torch.equal(found[0, 0, :, 20 * z : 20 * (z + 1)], volume[0, 0, z])


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_voxel_sees_the_slices_around_it(norm):
    model = built(norm, slices=16).eval()
    slices = torch.randn(1, 16, 32, 32, requires_grad=True)
    model(slices)[0, 1, 16, 32 * 8 + 16].backward()  # the middle of slice 8
    seen = slices.grad[0].abs().amax(dim=(1, 2))
    assert seen[3:13].min() > 0
    assert slices.grad[0, 8, 6:26, 16].abs().min() > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm": "none"}, "model.norm=none with model.name=unet3d; expected batch or group"),
        ({"norm": "group", "weight_standardisation": True}, "weight_standardisation=true with"),
    ],
)
def test_what_volumes_have_no_form_of_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        build_model(ModelConfig(name="unet3d", **changes), outputs=2, channels=8, seed=0)


def experiment(**changes):
    data = DataConfig(task="segmentation", frames=8, image_size=32)
    model = ModelConfig(name="unet3d", norm="group", norm_groups=8)
    return Experiment(**({"data": data, "model": model} | changes))


def test_a_private_run_cannot_clip_it():
    check_outputs(experiment())
    words = ["task=segmentation", "model=unet3d", "model.norm=group", "data.frames=8"]
    for mode in ("dp_sgd", "dp_sgd_shared"):
        plain = ("baselines=[]", "model.weight_standardisation=false")
        asked = parse(Experiment, compose("config", [*words, f"privacy={mode}", *plain]))
        with pytest.raises(ConfigError, match=f"privacy.mode={mode} with model.name=unet3d"):
            check_outputs(asked)
    noised = parse(Experiment, compose("config", [*words, "privacy=dp_aggregate"]))
    assert noised.privacy.mode == "dp_aggregate"
    check_outputs(noised)


@pytest.mark.parametrize("slices", [2, 6, 63])
def test_slices_are_a_multiple_of_four(slices):
    data = DataConfig(task="segmentation", frames=slices, image_size=32)
    with pytest.raises(ConfigError, match=f"data.frames={slices} with .* a multiple of 4"):
        check_outputs(experiment(data=data))


def test_images_of_another_side_are_refused():
    with pytest.raises(ConfigError, match=r"data.image_size=30 with model.name=unet3d"):
        check_outputs(experiment(data=DataConfig(task="segmentation", frames=8, image_size=30)))
    with pytest.raises(ConfigError, match=r"data.frames=1 with model.name=unet3d"):
        check_outputs(experiment(data=DataConfig(task="segmentation", image_size=32)))


def test_a_classifier_of_volumes_is_another_model():
    with pytest.raises(ConfigError, match=r"model.name=unet3d with data.task=classification"):
        check_outputs(experiment(data=DataConfig(frames=8, image_size=32)))
