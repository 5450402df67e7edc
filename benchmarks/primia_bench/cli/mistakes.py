"""Mistakes that people make at the command line, and the words that the answer must hold.

`tests/cli/mistakes` runs them all in one process, `time_mistakes` each in its own.
"""

from pathlib import Path

LIBRARY_TEXT = (
    *("traceback", "omegaconf", "antlr", "in struct", "lexer", "viable alternative", "hydra.cc"),
    *("listconfig", "dictconfig", "anynode", "structuredconfig", "full_key", "object_type"),
    *("could not be converted", "ambiguous value", "<eof>", "defaults list", "override"),
)
"""What no answer may hold, in small letters."""

_KEYS = (
    (("train", "rounds=5"), "did you mean federation.rounds?"),
    (("train", "federation.round=5"), "did you mean federation.rounds?"),
    (("train", "learning_rate=0.1"), "did you mean training.learning_rate?"),
    (("train", "lr=0.1"), "unknown key lr"),
    (("train", "root=scans"), "did you mean data.root?"),
    (("train", "dat.root=scans"), "did you mean data.root?"),
    (("train", "data.root.x=scans"), "did you mean data.root?"),
    (("train", "seed.x=1"), "did you mean seed?"),
    (("train", "+foo=1"), "unknown key foo"),
    (("train", "~foo"), "unknown key foo"),
    (("train", "model/foo=1"), "unknown key model/foo"),
    (("train", "data@foo=folder"), "unknown key data@foo"),
    (("train", "defaults=5"), "unknown key defaults"),
    (("train", "hydra.foo=1"), "does nothing here"),
    (("train", "hydra/launcher=joblib"), "does nothing here"),
    (("train", "strategy.secure=true"), "earlier version"),
    (("evaluate", "model=outputs/a"), "expected one of run"),
    (("data", "check", "root=scans"), "did you mean data.root?"),
    (("privacy", "plan", "epsilom=3"), "did you mean epsilons?"),
)
_WORDS = (
    (("train", "rounds"), "expected key=value"),
    (("train", "=5"), "expected key=value"),
    (("train", "federation.sites[0]=a"), "expected key=value"),
    (("train", "data@x.y:z=1"), "expected key=value"),
    (("train", "ключ=1"), "expected key=value"),
    (("train", "--rounds=5"), "is not a flag"),
    (("train", "--hlep"), "is not a flag"),
    (("train", "--plugins"), "expected --plugins FOLDER"),
    (("train", "--plugins", "nowhere"), "primia new"),
    (("trian",), "did you mean train?"),
    (("data", "chek"), "did you mean data check?"),
    (("train", "sweep=demo"), "without -m"),
    (("train", "-m", "sweep.trials=5"), "without a search"),
    (("train", "-m", "sweep=dmo"), "expected one of"),
    (("train", "-m", "rounds=1,2"), "did you mean federation.rounds?"),
    (("train", "-m", "sweep=demo", "seed=1,2"), "lists several values"),
)
_VALUES = (
    (("provision", "sites=[a,b]", "server=fl.example.org:9391"), "without a port"),
    (("provision", "sites=[a,b]", "server=0.0.0.0"), "at which the others reach it"),
    (("provision", "service", "model_owner=a..b"), "at which the others reach it"),
    (("data", "check", "seed=-1"), "expected a number of at least 0"),
    (("data", "check", "limit=-1"), "expected a number of at least 0"),
    (("data", "check", "data.root=" + "n" * 300), "File name too long"),
    (("data", "check", "data.root=~nobodyatall/x"), "the home of a user who is none here"),
    (("data", "deidentify", "seed=-1"), "expected a number of at least 0"),
    (("data", "partition", "seed=99999999999"), "expected a number of at least 0"),
    (("evaluate", "run=x", "data.workers=-1"), "data.workers=-1; expected"),
    (("train", "federation.rounds=abc"), "expected a whole number"),
    (("train", "federation.rounds=1.5"), "expected a whole number"),
    (("train", "federation.rounds=fünf"), "expected a whole number"),
    (("train", "federation.rounds="), "expected a whole number"),
    (("train", "federation.rounds=[1,2]"), "expected a whole number"),
    (("train", "federation.rounds={a:1}"), "expected a whole number"),
    (("train", "federation.rounds=-1"), "at least 1"),
    (("train", "seed=1,2,3"), "primia train -m"),
    (("train", "seed=null"), "expected a whole number"),
    (("train", "seed=???"), "expected a whole number"),
    (("train", "seed=99999999999999999999"), "at most 4294967295"),
    (("train", "training.learning_rate=0,1"), "expected a number"),
    (("train", "training.learning_rate=1e999"), "training.learning_rate=inf"),
    (("train", "training.learning_rate=nan"), "training.learning_rate=nan"),
    (("train", "quiet=maybe"), "expected true or false"),
    (("train", "name=null"), "expected text"),
    (("train", "name=my run"), "name='my run'"),
    (("train", "name='x"), "letters, digits"),
    (("train", "federation.sites=a"), "federation.sites=[a]"),
    (("train", "federation.sites=a,b,c"), "federation.sites=[a,b,c]"),
    (("train", "federation.sites=[a"), "expected a list"),
    (("train", "federation.sites=[a,a,a]"), "different names"),
    (("train", "baselines=local"), "baselines=[local]"),
    (("train", "baselines=[x]"), "local, ensemble, centralised"),
    (("train", "data.partition.shares=[1,a]"), "data.partition.shares[1]=a"),
    (("train", "data.patient_pattern=("), "regular expression"),
    (("train", "data.root=${foo}"), "foo, which is not there"),
    (("train", "data.root=a\nb"), "control character"),
    (("compare", "runs=outputs/a"), "runs=[outputs/a]"),
)
_CHOICES = (
    (("train", "data=5"), "expected one of auto, chexpert, folder"),
    (("train", "data=null"), "expected one of auto, chexpert, folder"),
    (("train", "model=resnet19"), "did you mean resnet18?"),
    (("train", "model.name=resnet19"), "did you mean resnet18?"),
    (("train", "strategy=fedvag"), "did you mean fedavg?"),
    (("train", "experiment=dmeo"), "did you mean demo?"),
    (("train", "experiment=nowhere/experiment/x.yaml"), "existing file"),
    (("train", "experiment=demo,pneumonia"), "expected one of demo"),
    (("train", "training.device=gpu"), "training.device=gpu"),
    (("train", "strategy=krum"), "aggregation=plain"),
)
_PLACES = (
    (("train", "data.root=nowhere"), "expected an existing folder"),
    (("train", "data.root=Bilder (1), [neu]=ä"), "Bilder (1), [neu]=ä"),
    (("train", "data=folder"), "data.root is empty"),
    (("train", "data=manifest"), "data.manifest is empty"),
    (("train", "data.manifest=nowhere.csv"), "expected an existing CSV file"),
    (("train", "resume=nowhere"), "config.yaml"),
    (("train", "output_dir=/dev/null/x"), "cannot be written"),
    (("train", "experiment=broken/experiment/own.yaml"), "own.yaml: line 3 is not valid YAML"),
    (("train", "experiment=odd/experiment/odd.yaml"), "unknown key foo"),
    (("train", "tracking=online"), "WANDB_API_KEY"),
    (("evaluate", "run=nowhere"), "nowhere"),
    (("predict", "nowhere"), "nowhere"),
    (("site", "check"), "site.yaml"),
    (("privacy", "verify", "ledger=nowhere"), "nowhere"),
)
MISTAKES = (*_KEYS, *_WORDS, *_VALUES, *_CHOICES, *_PLACES)


def prepare(folder: Path) -> None:
    """Write the files that some mistakes name."""
    for name, text in (
        ("broken/experiment/own.yaml", "name: x\nseed: [1\n"),
        ("odd/experiment/odd.yaml", "# @package _global_\nfoo: 1\n"),
    ):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text, encoding="utf-8")
