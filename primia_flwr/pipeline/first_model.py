"""The model that every training of an experiment starts from, and the card of what comes of it."""

from torch import nn

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import config_hash
from primia_flwr.config.rows import MODELS
from primia_flwr.errors import ConfigError
from primia_flwr.models import ModelCard, build_model
from primia_flwr.models.frozen_arrays import check_shared
from primia_flwr.models.provenance import UNKNOWN, Provenance, after_run
from primia_flwr.models.weights_card import check_start, provenance_of
from primia_flwr.training.device import derive_seed
from primia_flwr.training.normalisation import Normalisation

_CLIPPING = ("dp_sgd", "dp_sgd_shared")


def first_model(experiment: Experiment, outputs: int) -> nn.Module:
    """Build the model with the experiment's first weights: the same in every process."""
    return build_model(
        experiment.model,
        outputs=outputs,
        channels=experiment.data.channels,
        seed=derive_seed(experiment.seed, "model"),
    )


def check_outputs(experiment: Experiment) -> None:
    """Refuse a model whose outputs are not those of the task, and a loss that the task has not.

    Raises
    ------
    ConfigError
        If one has outputs at each pixel and the other of each image, sides do not fit, nothing of
        the model would be shared, it reads sequences and the data are none, or a private run cannot
        clip it.
    """
    model, task, size = experiment.model.name, experiment.task, experiment.data.image_size
    multiple = MODELS[model].dense
    if bool(multiple) != task.masked:
        fitting = ", ".join(name for name in MODELS if bool(MODELS[name].dense) == task.masked)
        raise ConfigError(
            f"model.name={model} with data.task={task.name}; expected a model with outputs "
            f"{'at each pixel' if task.masked else 'of each image'}: {fitting}"
        )
    if multiple and size % multiple:
        raise ConfigError(
            f"data.image_size={size} with model.name={model}; expected a multiple of {multiple}, "
            f"e.g. data.image_size={multiple * max(1, round(size / multiple))}"
        )
    frames = experiment.data.frames
    if MODELS[model].sequences and frames == 1:
        raise ConfigError(
            f"data.frames=1 with model.name={model}; expected the number of frames of each "
            "sequence, e.g. data.frames=5, or a model of single images"
        )
    if MODELS[model].sequences and multiple and frames % multiple:
        raise ConfigError(
            f"data.frames={frames} with model.name={model}; expected a multiple of {multiple}, "
            f"e.g. data.frames={multiple * -(-frames // multiple)}"
        )
    if experiment.privacy.mode in _CLIPPING and not MODELS[model].clipped:
        raise ConfigError(
            f"privacy.mode={experiment.privacy.mode} with model.name={model}; expected another "
            "model or privacy=dp_aggregate: a patient's gradient of its layers cannot be clipped"
        )
    task.loss(experiment.training)
    check_shared(experiment.model, channels=experiment.data.channels)


def check_first_weights(experiment: Experiment) -> Provenance:
    """Return what the first weights add to a run's claim.

    Raises
    ------
    ConfigError
        If a private run may not start from them.
    """
    return check_start(
        experiment.model.weights, experiment.privacy, synthetic=experiment.trains_on_synthetic
    )


def trained_provenance(experiment: Experiment, *, epsilon: float | None) -> Provenance:
    """Return whose images are in a model that an experiment trained, at `epsilon` if private."""
    return after_run(
        provenance_of(experiment.model.weights) or UNKNOWN,
        experiment.privacy,
        epsilon=epsilon,
        synthetic=experiment.trains_on_synthetic,
    )


def model_card(
    experiment: Experiment,
    classes: tuple[str, ...],
    normalisation: Normalisation,
    round_: int,
    *,
    site: str = "",
) -> ModelCard:
    """Return the card of a model that was trained for `round_` rounds of an experiment.

    `site`: whose own layers are in it. As if without privacy; who trained it with privacy puts that
    in.
    """
    return ModelCard(
        model=experiment.model,
        classes=classes,
        channels=experiment.data.channels,
        image_size=experiment.data.image_size,
        resize=experiment.data.resize,
        mean=normalisation.mean,
        std=normalisation.std,
        config_hash=config_hash(experiment),
        round=round_,
        synthetic=experiment.trains_on_synthetic,
        several=experiment.task.several,
        provenance=trained_provenance(experiment, epsilon=None),
        site=site,
    )
