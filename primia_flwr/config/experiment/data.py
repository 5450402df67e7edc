"""Configuration of the data: where images lie, how they are read, split, shared out and varied."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from primia_flwr.config.checks import (
    check_choice,
    check_classes,
    check_column,
    check_columns,
    check_length,
    check_mask_values,
    check_pattern,
    check_range,
)
from primia_flwr.config.rows import LAYOUTS, TASKS
from primia_flwr.errors import ConfigError

SPLIT_NAMES = ("auto", "all", "train", "val", "test")
RESIZE_NAMES = ("squash", "pad", "crop")
_PARTITION_NAMES = ("iid", "dirichlet", "quantity", "manifest")
_NORMALISATION_NAMES = ("federated", "fixed")
_UNCERTAIN_NAMES = ("keep", "refuse", "drop", "negative", "positive")
_UNMENTIONED_NAMES = ("unknown", "negative")
STUDY = "study"
_CASE_NAMES = ("image", STUDY)
_BURNED_IN_NAMES = ("keep", "drop", "refuse")


@dataclass
class PartitionConfig:
    """How patients are dealt to the sites of a simulation.

    iid: equal shares of every class. quantity: unequal sizes, equal class mixture; `shares`, or
    a draw from Dirichlet(alpha). dirichlet: every class is dealt by its own draw from
    Dirichlet(alpha). manifest: the `site` column of the manifest.
    """

    kind: str = "iid"
    alpha: float = 1.0
    shares: list[float] = field(default_factory=list)
    min_patients: int = 1

    def __post_init__(self) -> None:
        check_choice("data.partition.kind", self.kind, _PARTITION_NAMES)
        check_range("data.partition.alpha", self.alpha, 0, 1e6, example=0.5, open_low=True)
        check_range("data.partition.min_patients", self.min_patients, 0, example=1)
        for share in self.shares:
            check_range("data.partition.shares", share, 0, example=0.5, open_low=True)


@dataclass
class SelectConfig:
    """Which images are taken, by their DICOM headers; an empty list takes all.

    `modality`, `view` (position), `intent` (presentation intent type): the values that are taken,
    in any case of letters; `""` stands for an image whose header does not say, or that has none.
    `burned_in`: what becomes of an image whose header says that text is burned into it: `keep`,
    `drop`, or `refuse`, which stops and names it.
    """

    modality: list[str] = field(default_factory=list)
    view: list[str] = field(default_factory=list)
    intent: list[str] = field(default_factory=list)
    burned_in: str = "keep"

    def __post_init__(self) -> None:
        check_choice("data.select.burned_in", self.burned_in, _BURNED_IN_NAMES)
        for key in ("modality", "view", "intent"):
            check_length(f"data.select.{key}", getattr(self, key), 0, 20, example=_EXAMPLES[key])


_EXAMPLES = {"modality": "[DX,CR]", "view": "[PA,AP]", "intent": "[FOR PRESENTATION]"}


@dataclass
class SyntheticConfig:
    """Radiographs drawn by formula: `patients` of them, with one to three images each."""

    patients: int = 580
    seed: int = 0
    severity: float = 1.0

    def __post_init__(self) -> None:
        check_range("data.synthetic.patients", self.patients, 6, 100_000, example=580)
        check_range("data.synthetic.seed", self.seed, 0, 2**31 - 1, example=0)
        check_range("data.synthetic.severity", self.severity, 0, 10, example=1.0)


@dataclass
class VolumesConfig:
    """How volumes become slices, and what is counted in them.

    `window`: what becomes black and white, e.g. [-160, 240] in Hounsfield units; empty: from the
    0.5th to the 99.5th percentile of each volume. `slices`: `all` but empty ones of
    one tone, or those that are `labelled` with more than the background. `fingerprint`: the sites
    also count spacings, sizes and intensities; `levels`: the first and the last of 4,096 levels of
    intensity that are told apart.
    """

    window: list[float] = field(default_factory=list)
    slices: str = "all"
    fingerprint: bool = False
    levels: list[float] = field(default_factory=lambda: [-1024.0, 3071.0])

    def __post_init__(self) -> None:
        check_choice("data.volumes.slices", self.slices, ("all", "labelled"))
        check_length("data.volumes.levels", self.levels, 2, 2, example="[-1024,3071]")
        first, last = self.levels
        check_range("data.volumes.levels[0]", first, -1e6, 1e6, example=-1024)
        check_range("data.volumes.levels[1]", last, first, 1e6, example=3071, open_low=True)
        if self.window:
            check_length("data.volumes.window", self.window, 2, 2, example="[-160,240]")
            low, high = self.window
            check_range("data.volumes.window[0]", low, -1e6, 1e6, example=-160)
            check_range("data.volumes.window[1]", high, low, 1e6, example=240, open_low=True)


@dataclass
class NormalisationConfig:
    """Mean and standard deviation of pixels in [0, 1]: over the federation, or `fixed`."""

    kind: str = "federated"
    mean: list[float] = field(default_factory=lambda: [0.5])
    std: list[float] = field(default_factory=lambda: [0.25])

    def __post_init__(self) -> None:
        check_choice("data.normalisation.kind", self.kind, _NORMALISATION_NAMES)
        for key, values in (("mean", self.mean), ("std", self.std)):
            check_length(f"data.normalisation.{key}", values, 1, 3, example="[0.5]")
        for mean in self.mean:
            check_range("data.normalisation.mean", mean, 0, 1, example=0.5)
        for std in self.std:
            check_range("data.normalisation.std", std, 0, 1, example=0.25, open_low=True)


@dataclass
class AffineConfig:
    """Rotation and shear in ±degrees, translation in fractions, scale as a range of factors."""

    probability: float = 0.0
    degrees: float = 10.0
    translate: float = 0.05
    scale: list[float] = field(default_factory=lambda: [0.9, 1.1])
    shear: float = 0.0

    def __post_init__(self) -> None:
        _check_probability("affine", self.probability)
        check_range("data.augmentation.affine.degrees", self.degrees, 0, 180, example=10)
        check_range("data.augmentation.affine.translate", self.translate, 0, 1, example=0.05)
        check_range("data.augmentation.affine.shear", self.shear, 0, 60, example=6)
        _check_pair("affine.scale", self.scale, 0.1, 10, example="[0.9,1.1]")


@dataclass
class FlipConfig:
    """Mirror images left to right, and top to bottom."""

    horizontal: float = 0.0
    vertical: float = 0.0

    def __post_init__(self) -> None:
        check_range("data.augmentation.flip.horizontal", self.horizontal, 0, 1, example=0.5)
        check_range("data.augmentation.flip.vertical", self.vertical, 0, 1, example=0.5)


@dataclass
class CropConfig:
    """Cut out a part of `scale` times the area and resize it to the image's size."""

    probability: float = 0.0
    scale: list[float] = field(default_factory=lambda: [0.8, 1.0])

    def __post_init__(self) -> None:
        _check_probability("crop", self.probability)
        _check_pair("crop.scale", self.scale, 0.01, 1, example="[0.8,1.0]")


@dataclass
class ToneConfig:
    """A factor (brightness, contrast, sharpness) or exponent (gamma) in [1-x, 1+x]."""

    probability: float = 0.0
    magnitude: float = 0.2


@dataclass
class SigmaConfig:
    """Blur: up to `magnitude` pixels. Noise: up to `magnitude` of the pixel range [0, 1]."""

    probability: float = 0.0
    magnitude: float = 0.05


@dataclass
class _ElasticConfig:
    """Displacements up to `magnitude` pixels, smooth over `smoothness` pixels."""

    probability: float = 0.0
    magnitude: float = 20.0
    smoothness: float = 6.0

    def __post_init__(self) -> None:
        _check_probability("elastic", self.probability)
        check_range("data.augmentation.elastic.magnitude", self.magnitude, 0, 500, example=20)
        check_range("data.augmentation.elastic.smoothness", self.smoothness, 0.5, 50, example=6)


@dataclass
class EqualiseConfig:
    """Equal counts of every grey level: over the image, or in `tiles` x `tiles` (CLAHE-like).

    `tiles` = 1 is the global equalisation; above it, `clip` bounds the contrast of a tile.
    """

    probability: float = 0.0
    tiles: int = 1
    clip: float = 3.0

    def __post_init__(self) -> None:
        _check_probability("equalise", self.probability)
        check_range("data.augmentation.equalise.tiles", self.tiles, 1, 16, example=4)
        check_range("data.augmentation.equalise.clip", self.clip, 1, 256, example=3)


@dataclass
class CutoutConfig:
    """Blank a rectangle of `area` (fractions of the image)."""

    probability: float = 0.0
    area: list[float] = field(default_factory=lambda: [0.02, 0.15])

    def __post_init__(self) -> None:
        _check_probability("cutout", self.probability)
        _check_pair("cutout.area", self.area, 0.001, 0.9, example="[0.02,0.15]")


@dataclass
class AugmentationConfig:
    """Random changes of training images, in this order, each with its probability (0 = off)."""

    affine: AffineConfig = field(default_factory=AffineConfig)
    flip: FlipConfig = field(default_factory=FlipConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    elastic: _ElasticConfig = field(default_factory=_ElasticConfig)
    equalise: EqualiseConfig = field(default_factory=EqualiseConfig)
    gamma: ToneConfig = field(default_factory=ToneConfig)
    brightness: ToneConfig = field(default_factory=ToneConfig)
    contrast: ToneConfig = field(default_factory=ToneConfig)
    sharpness: ToneConfig = field(default_factory=ToneConfig)
    blur: SigmaConfig = field(default_factory=lambda: SigmaConfig(magnitude=1.0))
    noise: SigmaConfig = field(default_factory=SigmaConfig)
    cutout: CutoutConfig = field(default_factory=CutoutConfig)

    def __post_init__(self) -> None:
        for name, highest in _HIGHEST_MAGNITUDE.items():
            part = getattr(self, name)
            _check_probability(name, part.probability)
            key = f"data.augmentation.{name}.magnitude"
            check_range(key, part.magnitude, 0, highest, example=highest / 4)


_HIGHEST_MAGNITUDE = {
    "gamma": 0.95,
    "brightness": 0.95,
    "contrast": 0.95,
    "sharpness": 0.95,
    "blur": 10.0,
    "noise": 1.0,
}


@dataclass
class MixupConfig:
    """Blend pairs of images and labels with a weight from Beta(alpha, alpha)."""

    probability: float = 0.0
    alpha: float = 0.3

    def __post_init__(self) -> None:
        check_range("data.mixup.probability", self.probability, 0, 1, example=0.5)
        check_range("data.mixup.alpha", self.alpha, 0, 100, example=0.3, open_low=True)


MOST_FRAMES = 64
_MOST_PIXELS = 2048**2  # of all frames with a mask


@dataclass
class DataConfig:
    """Everything about the data.

    Attributes
    ----------
    task
        What a label is: a file of primia_flwr/tasks.
    layout
        How the images lie in `root` or `manifest`; with either, `synthetic` means `auto`.
    split
        Which images of a folder with `train`, `val`, `test` sub-folders: `auto` trains on train
        and val and tests on test; `all` ignores the sub-folders; a name takes that one alone.
    classes
        Names in the order of the model's outputs; empty: as found in the data.
    patient_pattern
        Regular expression with a group `patient`, searched in every path of a class folder, and
        of a manifest that names no patients.
    patient_column
        Column of the manifest that names the patient.
    columns
        Names of the manifest's columns, by what they hold: path, label, patient, site, split,
        study, and mask, which takes the label's place for a task with masks.
    uncertain
        What becomes of the label -1 beside 0 and 1, or `uncertain`, in a manifest: a class of its
        own (`keep`, with a warning), an error (`refuse`), left out (`drop`), or class 0
        (`negative`) or 1 (`positive`). Of several findings an image: unknown (`keep`), an error,
        the whole image left out, absent or present.
    unmentioned
        Of several findings an image: what an empty cell says, `unknown` or `negative` (absent).
    case
        Of several findings an image: what is judged, each `image` by itself, or each `study`
        (frontal and lateral, say) by the mean of its images' logits.
    mask_values
        The value of each class in the files of masks, in the order of `classes`; empty: 0, 1, 2 ...
    select
        Which images are taken, by their DICOM headers.
    test_fraction, val_fraction
        Shares of the patients, of every class: for the test set (where no test folder exists),
        and at every site for its validation set.
    frames
        Of a file that is a sequence; `channels`, 1 before, is then as many: the frames are grey.
    workers
        Decoding threads; 0: one for every core.
    """

    task: str = "classification"
    layout: str = "synthetic"
    root: str = ""
    manifest: str = ""
    split: str = "auto"
    classes: list[str] = field(default_factory=list)
    patient_pattern: str = ""
    patient_column: str = "patient"
    columns: dict[str, str] = field(default_factory=dict)
    uncertain: str = "keep"
    unmentioned: str = "unknown"
    case: str = "image"
    mask_values: list[int] = field(default_factory=list)
    select: SelectConfig = field(default_factory=SelectConfig)
    image_size: int = 64
    channels: int = 1
    frames: int = 1
    resize: str = "squash"
    test_fraction: float = 0.2
    val_fraction: float = 0.15
    skip_unreadable: bool = False
    workers: int = 0
    cache_dir: str = ".primia/cache"
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    volumes: VolumesConfig = field(default_factory=VolumesConfig)
    normalisation: NormalisationConfig = field(default_factory=NormalisationConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    mixup: MixupConfig = field(default_factory=MixupConfig)

    def __post_init__(self) -> None:
        check_choice("data.task", self.task, TASKS)
        check_choice("data.layout", self.layout, LAYOUTS)
        if self.layout == "synthetic" and (self.root or self.manifest):
            self.layout = "auto"
        check_choice("data.split", self.split, SPLIT_NAMES)
        check_choice("data.resize", self.resize, RESIZE_NAMES)
        self._check_frames()
        if self.volumes.fingerprint and self.layout != "msd":
            raise ConfigError(
                f"data.volumes.fingerprint=true with data.layout={self.layout}; expected "
                "data.layout=msd: only volumes have spacings and stored intensities"
            )
        check_classes("data.classes", self.classes)
        check_pattern("data.patient_pattern", self.patient_pattern)
        check_column("data.patient_column", self.patient_column)
        self.columns = {column: name for column, name in self.columns.items() if name}
        check_columns("data.columns", self.columns)
        check_choice("data.uncertain", self.uncertain, _UNCERTAIN_NAMES)
        check_choice("data.unmentioned", self.unmentioned, _UNMENTIONED_NAMES)
        check_choice("data.case", self.case, _CASE_NAMES)
        if self.case == STUDY and not TASKS[self.task].several:
            raise ConfigError(
                f"data.case={STUDY} with data.task={self.task}; expected image: studies are judged "
                "as one case with task=multilabel"
            )
        check_mask_values("data.mask_values", self.mask_values, "data.classes", self.classes)
        check_range("data.image_size", self.image_size, 16, 2048, example=64)
        check_range("data.test_fraction", self.test_fraction, 0, 0.9, example=0.2)
        check_range("data.val_fraction", self.val_fraction, 0.01, 0.9, example=0.15)
        check_range("data.workers", self.workers, 0, 256, example=0)

    @property
    def of_volumes(self) -> bool:
        """Whether the frames are slices of a volume, each with a mask."""
        return self.frames > 1 and TASKS[self.task].masked

    def _check_frames(self) -> None:
        check_range("data.frames", self.frames, 1, MOST_FRAMES, example=5)
        if self.frames == 1:
            check_choice("data.channels", str(self.channels), ("1", "3"))
        elif self.channels not in (1, self.frames):
            raise ConfigError(
                f"data.frames={self.frames} with data.channels={self.channels}; expected "
                "data.channels=1: the frames of a sequence are grey"
            )
        elif TASKS[self.task].masked and self.frames * self.image_size**2 > _MOST_PIXELS:
            raise ConfigError(
                f"data.frames={self.frames} with data.image_size={self.image_size}; expected at "
                f"most {_MOST_PIXELS:,} pixels of all frames together: give fewer or smaller ones"
            )
        else:
            self.channels = self.frames


def with_absolute_paths(cfg: DataConfig) -> DataConfig:
    """Copy of `cfg` whose paths no longer depend on the current directory."""
    return replace(
        cfg,
        root=_absolute(cfg.root),
        manifest=_absolute(cfg.manifest),
        cache_dir=_absolute(cfg.cache_dir),
    )


def augmentation_is_off(cfg: AugmentationConfig) -> bool:
    """Whether no transform has a probability above zero."""
    parts = [getattr(cfg, part.name) for part in fields(cfg) if part.name != "flip"]
    return not (cfg.flip.horizontal or cfg.flip.vertical or any(p.probability for p in parts))


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve()) if path else ""


def _check_probability(name: str, value: float) -> None:
    check_range(f"data.augmentation.{name}.probability", value, 0, 1, example=0.5)


def _check_pair(name: str, values: list[float], low: float, high: float, *, example: str) -> None:
    key = f"data.augmentation.{name}"
    check_length(key, values, 2, 2, example=example)
    check_range(f"{key}[0]", values[0], low, high, example=low)
    check_range(f"{key}[1]", values[1], values[0], high, example=high)
