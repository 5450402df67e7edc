"""The types of what `primia_flwr` offers; `__init__.py` loads the names on their first use."""

from primia_flwr.api.analysis import compare as compare
from primia_flwr.api.analysis import evaluate as evaluate
from primia_flwr.api.analysis import predict as predict
from primia_flwr.api.results import ComparedRuns as ComparedRuns
from primia_flwr.api.results import Evaluation as Evaluation
from primia_flwr.api.results import PredictedImages as PredictedImages
from primia_flwr.api.results import TrainedRun as TrainedRun
from primia_flwr.api.training import open_run as open_run
from primia_flwr.api.training import train as train
from primia_flwr.config.experiment.schema import Experiment as Experiment
from primia_flwr.config.load import compose_experiment as compose_experiment
from primia_flwr.config.load import load_experiment as load_experiment
from primia_flwr.config.load import to_yaml as to_yaml
from primia_flwr.data.dataset import LabelledImages as LabelledImages
from primia_flwr.data.dataset import SiteData as SiteData
from primia_flwr.data.dataset import load_images as load_images
from primia_flwr.data.dataset import load_site as load_site
from primia_flwr.data.dataset import load_test as load_test
from primia_flwr.data.manifest import Manifest as Manifest
from primia_flwr.data.reading.any_layout import read_manifest as read_manifest
from primia_flwr.errors import ConfigError as ConfigError
from primia_flwr.errors import DataError as DataError
from primia_flwr.errors import PrimiaError as PrimiaError
from primia_flwr.models.card import ModelCard as ModelCard
from primia_flwr.models.registry import build_model as build_model
from primia_flwr.models.saved import load_model as load_model
from primia_flwr.models.saved import save_model as save_model
from primia_flwr.pipeline.scoring import score_model as score_model
from primia_flwr.privacy.accounting.accountant import Guarantee as Guarantee
from primia_flwr.privacy.accounting.accountant import epsilon as epsilon
from primia_flwr.privacy.accounting.accountant import noise_multiplier_for as noise_multiplier_for
from primia_flwr.privacy.accounting.events import SampledGaussian as SampledGaussian
from primia_flwr.training.baselines import train_centralised as train_centralised
from primia_flwr.training.baselines import train_local as train_local
from primia_flwr.training.fit import fit as fit
from primia_flwr.training.normalisation import Normalisation as Normalisation
from primia_flwr.training.plan import plan_round as plan_round
from primia_flwr.training.recipe import Recipe as Recipe

__version__: str
__all__: list[str]
