"""Synthetic images: whom the generator's training protects, at what price, and how it trains."""

from dataclasses import dataclass

from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.config.experiment.privacy import UNITS
from primia_flwr.errors import ConfigError

_GROUP = 8  # channels of a group of the nets' norms


@dataclass
class SynthesisPrivacy:
    """Whose presence is hidden, a patient's or an image's, and what the generator may cost it.

    `epsilon` at `delta`: of all discriminator steps together; the noise is solved for. `ceiling`:
    on the epsilon of everything that the ledger has ever charged; 0: the epsilon of this one.
    `clip_norm`: the largest L2 norm of what one unit adds to a step's sum. `expected_batch`: units
    that each of `steps` steps draws on average. With a site's policy its unit, delta and ceiling
    stand.
    """

    unit: str = "patient"
    epsilon: float = 8.0
    delta: float = 1e-5
    ceiling: float = 0.0
    clip_norm: float = 1.0
    expected_batch: int = 256
    steps: int = 300

    def __post_init__(self) -> None:
        check_choice("privacy.unit", self.unit, UNITS)
        check_range("privacy.epsilon", self.epsilon, 0, 100, example=8, open_low=True)
        check_range("privacy.delta", self.delta, 0, 1, example=1e-5, open_low=True, open_high=True)
        check_range("privacy.ceiling", self.ceiling, 0, 1000, example=8)
        check_range("privacy.clip_norm", self.clip_norm, 0, 1e6, example=1.0, open_low=True)
        check_range("privacy.expected_batch", self.expected_batch, 1, 10**6, example=256)
        check_range("privacy.steps", self.steps, 1, 100_000, example=300)


@dataclass
class GeneratorConfig:
    """The two nets, and how they take turns.

    `latent`: numbers of noise an image. `width`, `discriminator_width`: channels, multiples of 8.
    `discriminator_steps`: so many noisy steps of the discriminator for one of the generator (Bie et
    al. 2023). Both take Adam with their learning rate; `weight_decay` is the discriminator's.
    """

    latent: int = 16
    width: int = 32
    discriminator_width: int = 16
    discriminator_steps: int = 3
    learning_rate: float = 1e-3
    discriminator_learning_rate: float = 1e-3
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_range("generator.latent", self.latent, 1, 1024, example=16)
        for key in ("width", "discriminator_width"):
            value = getattr(self, key)
            check_range(f"generator.{key}", value, _GROUP, 512, example=32)
            if value % _GROUP:
                raise ConfigError(f"generator.{key}={value}; expected a multiple of 8, e.g. 32")
        check_range("generator.discriminator_steps", self.discriminator_steps, 1, 100, example=3)
        for key in ("learning_rate", "discriminator_learning_rate"):
            check_range(f"generator.{key}", getattr(self, key), 0, 1, example=1e-3, open_low=True)
        check_range("generator.weight_decay", self.weight_decay, 0, 10, example=0.01)
