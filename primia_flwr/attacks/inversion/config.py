"""How long and how an attacker searches for the images of a gradient."""

from dataclasses import dataclass

from primia_flwr.config.checks import check_choice, check_range

_METHODS = ("spectral", "paper")


@dataclass(frozen=True)
class InversionConfig:
    """How long and how the images are searched for.

    Attributes
    ----------
    method
        `spectral`, ours: Fourier coefficients, the last layers first, rectifiers with a surrogate
        derivative; or `paper`: pixels, signed Adam, for which the paper takes 4,800 iterations or
        more, a step of 0.1 and a total variation of 1e-4 to 1e-1.
    iterations
        Steps of each start, 1 to 1,000,000.
    restarts
        Random starts, 1 to 1,000.
    step_size
        Of Adam at first, above 0; of `paper` in standard deviations of a pixel.
    total_variation
        Weight of the total variation at first, at least 0.
    batch_statistics
        Weight of the distance to revealed batch statistics, at least 0.
    """

    method: str = "spectral"
    iterations: int = 500
    restarts: int = 1
    step_size: float = 0.05
    total_variation: float = 1.0
    batch_statistics: float = 0.1

    def __post_init__(self) -> None:
        check_choice("method", self.method, _METHODS)
        check_range("iterations", self.iterations, 1, 1_000_000, example=500)
        check_range("restarts", self.restarts, 1, 1000, example=2)
        check_range("step_size", self.step_size, 0, 10, example=0.1, open_low=True)
        check_range("total_variation", self.total_variation, 0, 1e6, example=0.1)
        check_range("batch_statistics", self.batch_statistics, 0, 1e6, example=0.1)

    @property
    def sees_switches(self) -> bool:
        """Whether rectifiers get a surrogate derivative."""
        return self.method == "spectral"
