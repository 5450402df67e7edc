"""What a model owner tells a data owner of its model."""

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.inference.service.model_owner import public_card
from primia_flwr.models.activation_bounds import ActivationBounds
from primia_flwr.models.card import ModelCard
from primia_flwr.models.origin import Origin


def test_nothing_of_its_origin_and_of_validation_patients_is_told() -> None:
    card = ModelCard(
        model=ModelConfig("simpleconv", weights="smith.safetensors", shared="no_norm"),
        classes=("a", "b"),
        channels=1,
        image_size=32,
        resize="squash",
        mean=(0.5,),
        std=(0.25,),
        config_hash="0123456789abcdef",
        round=3,
        synthetic=False,
        activation_bounds=ActivationBounds(7, 4, ("relu",), (10.0,), (23,)),
        site="munich",
        origin=Origin("smith.safetensors", "", "1" * 64, "2" * 64),
        set_scores=((7654, 0), (1, 2)),
    )
    told = str(public_card(card))
    for secret in ("smith", "munich", "7654", "1" * 64, "2" * 64, "0123456789abcdef", "23"):
        assert secret not in told, secret
    assert ModelCard.from_dict(public_card(card)).lacks == ""
