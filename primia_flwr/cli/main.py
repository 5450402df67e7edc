"""The entry point `primia`: finds the command in a closed table and hands it the arguments."""

import importlib
import os
import sys
from collections.abc import Sequence

from rich.console import Console

from primia_flwr import __version__
from primia_flwr.cli.plugins import with_plugins
from primia_flwr.cli.system import open_streams, refused
from primia_flwr.config.checks import nearest
from primia_flwr.errors import ConfigError
from primia_flwr.processes.children import loopback_without_proxy
from primia_flwr.processes.waiting import waiting_settings

# words -> (module, one line of help). Modules are imported only when their command is called.
COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("train.train", "train a model over all sites, simulated or real"),
    "evaluate": ("analysis.evaluate", "score a saved model on a folder of images"),
    "predict": ("analysis.predict", "classify images without labels by a saved model"),
    "compare": ("analysis.compare", "models and human readers on the same images"),
    "attack membership": ("analysis.attack_membership", "was a patient in a model's training?"),
    "attack poisoning": ("analysis.attack_poisoning", "what do sites that lie do to a model?"),
    "attack adversarial": ("analysis.attack_adversarial", "how little changes an image's class?"),
    "data check": ("data.check", "what is in a data folder, and what is broken"),
    "data fingerprint": ("data.fingerprint", "spacings, sizes and intensities of volumes"),
    "data partition": ("data.partition", "write one manifest per site"),
    "data deidentify": ("data.deidentify", "copies of images in which nothing names a patient"),
    "synthesise": ("data.synthesise", "labelled synthetic images, with differential privacy"),
    "runs list": ("runs.list", "which runs there are, and how far"),
    "runs stop": ("runs.stop", "end a run, at the sites too; it can be resumed"),
    "runs log": ("runs.log", "what a run has said, and says"),
    "provision": ("federation.provision", "make certificates, keys and a start-up kit per site"),
    "provision service": (
        "inference.provision",
        "make a kit for each party of encrypted inference",
    ),
    "federation status": ("federation.status", "which sites are registered and online"),
    "federation add": ("federation.add", "make start-up kits for more sites"),
    "federation reissue": ("federation.reissue", "make a kit with other keys for a site"),
    "federation revoke": ("federation.revoke", "take a site off the roster, its keys are void"),
    "federation renew": ("federation.renew", "renew the certificates before they end"),
    "federation identity": ("federation.identity", "trust identities that sites made themselves"),
    "federation trial": ("federation.trial", "run a real federation on this machine"),
    "serve crypto-provider": (
        "inference.serve_crypto_provider",
        "deal randomness to the parties of encrypted inference",
    ),
    "serve model-owner": ("inference.serve_model_owner", "classify images without seeing them"),
    "infer": ("inference.infer", "have your images classified without showing them"),
    "inference calibrate": ("inference.calibrate", "does fixed point do, and how large a ring"),
    "inference trial": ("inference.trial", "encrypted inference, all parties on this machine"),
    "secagg show": (
        "federation.secagg_show",
        "what the coordinator saw in a secure run, and what not",
    ),
    "attack": ("analysis.attack", "rebuild images from what a coordinator received"),
    "privacy show": ("privacy.show", "what has been spent on a site's patients, what is left"),
    "privacy plan": ("privacy.plan", "what an epsilon costs in noise, how far noise reaches"),
    "privacy verify": ("privacy.verify", "is the privacy ledger whole and unchanged"),
    "new strategy": ("new.strategy", "write a rule of your own, with its YAML and a test"),
    "new model": ("new.model", "write a model of your own, with its YAML and a test"),
    "new task": ("new.task", "write a task of your own, with its YAML and a test"),
    "new layout": ("new.layout", "write a data layout of your own, with its YAML and a test"),
    "site check": ("site.check", "is this site ready: data, keys, clock, link, disk"),
    "site identity": ("site.identity", "make this site's own identity; trust other sites'"),
    "site roster": ("site.roster", "who takes part; take in a changed roster"),
    "site ca": ("site.ca", "take in the renewed certificate of the federation's CA"),
    "site policy": ("site.policy", "show what this site allows"),
    "site run": ("site.run", "run a SuperNode that only runs approved bundles"),
    "site review": ("site.review", "show the code that asks to run here"),
    "site expect": ("site.expect", "keep a place for a bundle to look at"),
    "site approve": ("site.approve", "allow a bundle to run here"),
    "completion": ("shell.completion", "complete commands and keys at the Tab key"),
    "site log": ("site.log", "who asked for what, and what left the house"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `primia` and exit with the command's exit code.

    What it and the programs that it starts write is for its owner only: most tells of patients.
    What stays on this machine goes through no proxy.
    """
    os.umask(0o077)
    try:
        open_streams()
    except ConfigError as error:
        from primia_flwr.cli.command import mistake

        sys.exit(mistake(error))
    os.environ.update(loopback_without_proxy(os.environ) | waiting_settings())
    if "_PRIMIA_COMPLETE" in os.environ:  # a shell asks how a line goes on
        from primia_flwr.cli.shell.completion import answer

        sys.exit(answer(COMMANDS))
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run `primia` and return the exit code: 0 only for success."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except (OSError, MemoryError) as error:
        return refused(error)
    return code


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _print_overview()
        return 0
    if arguments[0] == "--version":
        print(__version__)
        return 0
    try:
        arguments = with_plugins(arguments)
    except ConfigError as error:
        from primia_flwr.cli.command import mistake

        return mistake(error)
    return _find_and_run(arguments)


def _find_and_run(arguments: list[str]) -> int:
    for length in (2, 1):
        words = " ".join(arguments[:length])
        if len(arguments) >= length and words in COMMANDS:
            return _dispatch(words, arguments[length:])
    group = [words for words in COMMANDS if words.split()[0] == arguments[0]]
    if (group and len(arguments) == 1) or (group and arguments[1] in ("-h", "--help")):
        _print_overview(group)
        return 0
    return _unknown(arguments)


def _dispatch(words: str, rest: list[str]) -> int:
    module = importlib.import_module(f"primia_flwr.cli.{COMMANDS[words][0]}")
    if words == "train":
        return int(module.main(rest))
    from primia_flwr.cli.command import call  # with OmegaConf, which the overview does not need

    return call(module.COMMAND, rest)


def _unknown(arguments: list[str]) -> int:
    from primia_flwr.cli.command import EXIT_MISTAKE

    typed = " ".join(arguments[:2]) if len(arguments) > 1 and "=" not in arguments[1] else ""
    typed = typed or arguments[0]
    hint = nearest(typed, COMMANDS) or nearest(arguments[0], COMMANDS)
    Console(stderr=True, emoji=False).print(
        f"[bold red]error:[/] 'primia {typed}' is not a command{hint}; see primia --help",
        soft_wrap=True,
    )
    return EXIT_MISTAKE


def _print_overview(only: Sequence[str] = ()) -> None:
    console = Console(emoji=False)
    console.print("primia: train and use medical image classifiers without sharing images\n")
    console.print(
        "[bold]Usage[/]  primia <command> \\[key=value ...]   (primia <command> --help explains)\n"
    )
    for words, (_, summary) in COMMANDS.items():
        if not only or words in only:
            console.print(f"  [bold]{words:<20}[/] {summary}")


if __name__ == "__main__":
    main()
