import pytest
import torch

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import MODELS
from primia_flwr.models import build_model
from primia_flwr.models.empty import empty_model


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("name", MODELS)
def test_an_empty_model_draws_nothing_and_is_whole_once_weights_are_loaded(
    name: str, norm: str
) -> None:
    volumes = name == "unet3d"
    standard, channels = norm == "group" and not volumes, 4 if volumes else 1
    cfg = ModelConfig(name=name, norm=norm, norm_groups=8, weight_standardisation=standard)
    before = torch.get_rng_state()
    model = empty_model(cfg, outputs=3, channels=channels)
    assert torch.equal(before, torch.get_rng_state())
    built = build_model(cfg, outputs=3, channels=channels, seed=0)
    model.load_state_dict(
        {k: v for k, v in built.state_dict().items() if v.is_floating_point()}, strict=False
    )
    for part in ("named_parameters", "named_buffers"):
        wanted = dict(getattr(built, part)())
        found = dict(getattr(model, part)())
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
