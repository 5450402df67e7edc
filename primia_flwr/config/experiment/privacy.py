"""Differential privacy of a run: what is protected, what it may cost, by which mechanism."""

from dataclasses import dataclass

from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.errors import ConfigError

PRIVATE_MODES = ("dp_sgd", "dp_aggregate", "dp_sgd_shared")
SUM_MODES = ("dp_aggregate", "dp_sgd_shared")  # the noise is complete in the secure sum only
_MODES = ("none", *PRIVATE_MODES)
UNITS = ("patient", "image")
_ENGINES = ("ghost", "loop", "opacus")
_BATCH_OVER_COUNT_NOISE = 20  # Andrew et al. 2021
_LEAST_LEFT = 1e-6  # of a step's cost for the gradient; below it rounding would decide
_WHY_NO_CLIP = {
    "none": "0: without privacy nothing is clipped",
    "dp_aggregate": "0: the noise of a site's part is laid down with the run, alike at all sites",
    "dp_sgd_shared": "0: the sum's scale and noise are laid down with the run, alike at all sites",
}


def check_count_noise(count_noise: float, noise_multiplier: float) -> None:
    """Refuse counts of units below a clip that alone cost as much as the steps may.

    `count_noise`: standard deviation on the count, of which a unit moves half. `noise_multiplier`:
    what a step is charged with.

    Raises
    ------
    ConfigError
        If twice the one is not above the other.
    """
    if not 1 - (noise_multiplier / (2 * count_noise)) ** 2 > _LEAST_LEFT:
        raise ConfigError(
            f"privacy.clip_count_noise={count_noise:g} with steps of noise multiplier "
            f"{noise_multiplier:.4g}; expected more than half of that, or counting alone costs "
            f"what a step may; set privacy.clip_count_noise={noise_multiplier:.2g} or a larger "
            "privacy.expected_batch, or privacy.clip_quantile=0"
        )


@dataclass
class PrivacyConfig:
    """Which guarantee a run makes, if any.

    `mode`: `dp_sgd`, every site trains with noise of its own and counts what that costs;
    `dp_aggregate`, every site clips its update and adds its part of the noise of the sum;
    `dp_sgd_shared`, every round is one step of DP-SGD over all sites with the sum's noise. `unit`:
    whose presence is hidden, a patient's with all images or a single image's. `epsilon` and
    `delta`: what the whole run may cost such a unit at a site; each site solves for the noise.
    Or `noise_multiplier` fixes the noise, and epsilon follows. `clip_norm`: the largest L2 norm of
    what one unit (dp_sgd, dp_sgd_shared: to a step's sum) or one site (dp_aggregate: its update)
    contributes.

    dp_sgd: `expected_batch` units are drawn for each of `steps` steps a round, each unit with
    probability expected_batch / n; `views` random views of its images make up its gradient.
    `engine` clips; `micro_batch` units are on the device at once. With `patient_steps` above 1 a
    unit takes so many plain steps of its own, with `patient_rate`, before it is clipped. With
    `clip_quantile` above 0 the norm that is clipped to begins at `clip_norm` and moves by about
    `clip_rate` a step, as a factor's logarithm, until this share of the units' norms is below it;
    how many are is counted with noise of standard deviation `clip_count_noise`, or where that is 0,
    a twentieth of `expected_batch`, and the gradient's noise is raised so that a step costs what it
    would without.
    dp_sgd_shared: the same, but each site draws its units with `sampling_rate`, a public number
    alike at all sites, and divides by `expected_batch`. dp_aggregate, dp_sgd_shared: `max_knowing`
    sites, the one that computes with its own noise included, may know their part of it.

    `statistics_noise`: with `data.normalisation.kind=federated`, the noise multiplier of the pixel
    statistics and class counts that are then asked for once; 0: constants, and nothing is asked.

    `repeats`: rounds that may have to be paid for twice, because a site crashed after it was
    charged, or because a sum was given up, and that still fit the epsilon.

    `averaging`: weight of the past in the exponential average of the rounds' models, which is then
    the run's result, in [0, 1); 0 takes the last model.

    `disjoint_patients`: no patient is at two sites, as the coordinator assumes; then the run's
    epsilon is the largest of the sites', otherwise their sum.

    `weights_without_patients`: none of this run's patients was in the training of `model.weights`,
    as whoever sets it states; otherwise weights that were trained without privacy, or of which that
    is not known, are refused, and the epsilon of those that were trained with it is added. A
    deployed site asks its own policy, not this key.
    """

    mode: str = "none"
    unit: str = "patient"
    epsilon: float = 0.0
    noise_multiplier: float = 0.0
    delta: float = 1e-5
    clip_norm: float = 1.0
    expected_batch: int = 64
    sampling_rate: float = 0.0
    steps: int = 10
    views: int = 1
    engine: str = "ghost"
    micro_batch: int = 32
    patient_steps: int = 1
    patient_rate: float = 0.05
    clip_quantile: float = 0.0
    clip_rate: float = 0.2
    clip_count_noise: float = 0.0
    max_knowing: int = 1
    repeats: int = 0
    statistics_noise: float = 0.0
    averaging: float = 0.0
    disjoint_patients: bool = True
    weights_without_patients: bool = False

    def __post_init__(self) -> None:
        check_choice("privacy.mode", self.mode, _MODES)
        check_choice("privacy.unit", self.unit, UNITS)
        check_choice("privacy.engine", self.engine, _ENGINES)
        check_range("privacy.epsilon", self.epsilon, 0, 1000, example=3.0)
        check_range("privacy.noise_multiplier", self.noise_multiplier, 0, 1000, example=1.0)
        check_range("privacy.delta", self.delta, 0, 1, example=1e-5, open_low=True, open_high=True)
        check_range("privacy.clip_norm", self.clip_norm, 0, 1e6, example=1.0, open_low=True)
        check_range("privacy.expected_batch", self.expected_batch, 1, 10**6, example=64)
        check_range("privacy.sampling_rate", self.sampling_rate, 0, 1, example=0.25)
        check_range("privacy.steps", self.steps, 1, 100_000, example=10)
        check_range("privacy.views", self.views, 1, 64, example=1)
        check_range("privacy.micro_batch", self.micro_batch, 1, 65536, example=32)
        check_range("privacy.repeats", self.repeats, 0, 10_000, example=2)
        check_range("privacy.statistics_noise", self.statistics_noise, 0, 10, example=5)
        check_range("privacy.averaging", self.averaging, 0, 1, example=0.9, open_high=True)
        check_range("privacy.max_knowing", self.max_knowing, 1, 1000, example=1)
        self._check_off()
        self._check_target()
        self._check_shared()
        self._check_patient_steps()
        self._check_adaptive_clip()

    def _check_off(self) -> None:
        """Refuse a run that asks for a guarantee, and would claim none."""
        for key in ("epsilon", "noise_multiplier", "statistics_noise", "averaging"):
            value = getattr(self, key)
            if value and not self.enabled:
                raise ConfigError(
                    f"privacy.{key}={value:g} with privacy.mode=none; expected 0, or a mode: a run "
                    "without one adds no noise and claims nothing; set privacy=dp_sgd"
                )

    def _check_target(self) -> None:
        if self.enabled and (self.epsilon > 0) == (self.noise_multiplier > 0):
            raise ConfigError(
                f"privacy.epsilon={self.epsilon} and privacy.noise_multiplier="
                f"{self.noise_multiplier}; expected one of them above 0: the target, e.g. "
                "privacy.epsilon=3, or the noise"
            )

    def _check_shared(self) -> None:
        shared = self.mode == "dp_sgd_shared"
        if shared != (self.sampling_rate > 0):
            rule = "above 0, e.g. 0.25" if shared else "0 but for privacy=dp_sgd_shared"
            raise ConfigError(
                f"privacy.sampling_rate={self.sampling_rate} with privacy.mode={self.mode}; "
                f"expected {rule}"
            )
        if shared and self.steps != 1:
            raise ConfigError(
                f"privacy.steps={self.steps} with privacy.mode=dp_sgd_shared; expected 1: every "
                "round is one step of all sites; set federation.rounds to the number of steps"
            )

    def _check_patient_steps(self) -> None:
        check_range("privacy.patient_steps", self.patient_steps, 1, 100, example=4)
        check_range("privacy.patient_rate", self.patient_rate, 0, 100, example=0.05, open_low=True)
        if self.patient_steps == 1:
            return
        if self.mode not in ("dp_sgd", "dp_sgd_shared"):
            raise ConfigError(
                f"privacy.patient_steps={self.patient_steps} with privacy.mode={self.mode}; "
                "expected dp_sgd or dp_sgd_shared, which clip each patient: set privacy=dp_sgd"
            )
        if self.engine != "loop":
            raise ConfigError(
                f"privacy.patient_steps={self.patient_steps} with privacy.engine={self.engine}; "
                "expected loop: each patient's steps are taken one patient at a time; set "
                "privacy.engine=loop"
            )

    def _check_adaptive_clip(self) -> None:
        quantile = self.clip_quantile
        check_range("privacy.clip_quantile", quantile, 0, 1, example=0.5, open_high=True)
        check_range("privacy.clip_rate", self.clip_rate, 0, 2, example=0.2, open_low=True)
        check_range("privacy.clip_count_noise", self.clip_count_noise, 0, 1e6, example=6.4)
        if not quantile:
            return
        if self.mode != "dp_sgd":
            raise ConfigError(
                f"privacy.clip_quantile={quantile:g} with privacy.mode={self.mode}; expected "
                f"{_WHY_NO_CLIP[self.mode]}; set privacy.clip_quantile=0, or privacy=dp_sgd"
            )
        if self.noise_multiplier:
            self.check_count_noise(self.noise_multiplier)

    def check_count_noise(self, noise_multiplier: float) -> None:
        """Refuse a noise of the steps of which the counts below the clip leave nothing.

        Raises
        ------
        ConfigError
            If the clip is adaptive, and its counts alone cost more than a step with this noise.
        """
        if self.clip_quantile:
            check_count_noise(self.count_noise, noise_multiplier)

    @property
    def count_noise(self) -> float:
        """Standard deviation of the noise on the number of units below an adaptive clip."""
        return self.clip_count_noise or self.expected_batch / _BATCH_OVER_COUNT_NOISE

    @property
    def protected_unit(self) -> str:
        """What one unit of the claim is; nothing where the run claims nothing."""
        return self.unit if self.enabled else ""

    @property
    def promised_epsilon(self) -> float:
        """What the run may cost a unit; 0 where it claims nothing."""
        return self.epsilon if self.enabled else 0.0

    @property
    def promise(self) -> str:
        """What the run promises, in a line; nothing where it claims nothing."""
        if not self.enabled:
            return ""
        noise = (
            f"epsilon {self.epsilon:g}"
            if self.epsilon
            else f"noise multiplier {self.noise_multiplier:g}"
        )
        return f"{self.mode}, {noise} at delta {self.delta:g} for each {self.unit}"

    @property
    def bound_to_its_rounds(self) -> str:
        """Why the run cannot be lengthened; nothing where it can."""
        if not self.enabled:
            return ""
        return (
            "the noise of a private run is planned for its rounds; start a new run, whose cost in "
            "epsilon is added"
        )

    @property
    def enabled(self) -> bool:
        """Whether the run makes a guarantee at all."""
        return self.mode != "none"
