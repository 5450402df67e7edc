from __future__ import annotations

import pytest

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.errors import ConfigError


def test_the_default_choice_equals_the_dataclass() -> None:
    assert parse(Experiment, compose("config", ["data=synthetic"])).data == DataConfig()


@pytest.mark.parametrize("choice", ["auto", "folder", "manifest", "pneumonia", "synthetic"])
def test_every_choice_validates_and_names_its_layout(choice: str) -> None:
    assert parse(Experiment, compose("config", [f"data={choice}"])).data.layout == choice


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.image_size=7", "data.image_size=7; expected"),
        ("data.image_size=big", "data.image_size"),
        ("data.channels=2", "data.channels=2"),
        ("data.layout=folders", "did you mean folder"),
        ("data.resize=stretch", "data.resize=stretch"),
        ("data.split=trian", "did you mean train"),
        ("data.test_fraction=1.0", "data.test_fraction=1.0"),
        ("data.val_fraction=0", "data.val_fraction=0"),
        ("data.workers=-1", "data.workers=-1"),
        ("data.classes=[a]", "data.classes"),
        ("data.classes=[a,a]", "data.classes"),
        ("data.partition.kind=fair", "data.partition.kind=fair"),
        ("data.partition.alpha=0", "data.partition.alpha=0"),
        ("data.partition.shares=[1,-1]", "data.partition.shares=-1"),
        ("data.synthetic.patients=2", "data.synthetic.patients=2"),
        ("data.normalisation.kind=local", "data.normalisation.kind=local"),
        ("data.normalisation.std=[0]", "data.normalisation.std=0"),
        ("data.normalisation.mean=[]", "data.normalisation.mean has 0 entries"),
        ("data.mixup.alpha=0", "data.mixup.alpha=0"),
        ("data.mixup.probability=2", "data.mixup.probability=2"),
        ("data.augmentation.gamma.probability=2", "data.augmentation.gamma.probability=2"),
        ("data.augmentation.noise.magnitude=3", "data.augmentation.noise.magnitude=3"),
        ("data.augmentation.blur.magnitude=-1", "data.augmentation.blur.magnitude=-1"),
        ("data.augmentation.affine.scale=[2,1]", "data.augmentation.affine.scale[1]=1"),
        ("data.augmentation.affine.scale=[1]", "data.augmentation.affine.scale has 1 entries"),
        ("data.augmentation.flip.horizontal=-1", "data.augmentation.flip.horizontal=-1"),
        ("data.augmentation.equalise.tiles=0", "data.augmentation.equalise.tiles=0"),
        ("data.augmentation.cutout.area=[0,0.5]", "data.augmentation.cutout.area[0]=0"),
        ("data.augmentation.turn=1", "turn"),
    ],
)
def test_mistakes_name_key_and_value(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Experiment, compose("config", ["data=synthetic", override]))
    assert message in str(caught.value)
