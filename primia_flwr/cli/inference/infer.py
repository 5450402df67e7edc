"""`primia infer`: a diagnosis of one's own images by a model that never sees them."""

from pathlib import Path
from typing import Any

from rich.console import Console

from primia_flwr.cli.command import Command
from primia_flwr.cli.inference.findings import summary
from primia_flwr.cli.inference.predictions import output_folder, write_tables
from primia_flwr.cli.inference.resumed import Kept, read_kept
from primia_flwr.cli.inference.work import Work, bars
from primia_flwr.cli.stopping import Stopping
from primia_flwr.config.inference import InferArguments, check_installed
from primia_flwr.errors import PrimiaError, ServiceError


def _run(cfg: InferArguments) -> dict[str, Any]:
    """Have the images classified; write predictions.csv and predictions.json.

    With `watch=true` those that come, until it is stopped.
    """
    check_installed(cfg.protocol)
    from primia_flwr.data.files.unlabelled import find_images

    if cfg.watch:
        from primia_flwr.cli.inference.watch import watch

        return watch(cfg)
    console = Console(stderr=True, quiet=cfg.quiet, emoji=False)
    root, files = find_images(cfg.data.root)
    kept = _kept(cfg)
    output = kept.folder
    with bars(console, quiet=cfg.quiet) as progress:
        work = Work(cfg, progress, root, kept.left(files, root), kept)
        try:
            with Stopping() as stopping, stopping.breaks():
                for _ in work.classify():
                    work.save_in_time(output)
        except PrimiaError as error:
            raise _stopped(error, work, kept) from None
        except KeyboardInterrupt:
            if work.rows():
                write_tables(output, work.rows(), work.facts())
                sentence = f"what is done is in {output}; resume={output} goes on with the rest"
                console.print(sentence, markup=False, soft_wrap=True)
            raise
    write_tables(output, work.rows(), work.facts())
    facts = work.facts()
    told = [f"skipped {name}: {why}" for name, why in work.skipped.items()]
    told += [reason for row in work.rows() if (reason := work.why_none(row))]
    for sentence in (*told, facts["basis"]):
        console.print(sentence, markup=False, soft_wrap=True)
    return {**summary(facts), "output": str(output)}


def _kept(cfg: InferArguments) -> Kept:
    """Return where the tables go, and what an interrupted call has left there."""
    if not cfg.resume:
        return Kept(output_folder(cfg.output, resumable=True))
    return read_kept(Path(cfg.resume).expanduser().resolve(), audit=cfg.audit)


def _stopped(error: PrimiaError, work: Work, kept: Kept) -> PrimiaError:
    """Keep what was classified before an error; return the error, with where that is."""
    done, output = len(work.rows()), kept.folder
    if done == len(kept.rows):
        return error
    write_tables(output, work.rows(), work.facts())
    return ServiceError(
        f"{error}; {done} of {work.count} images are done, see {output}; resume={output} goes on "
        "with the rest"
    )


COMMAND = Command(
    words=("infer",),
    summary="have your images classified without showing them, by a model that you do not see",
    examples=(
        "primia infer server=diagnosis.example.org:9700 data.root=today kit=kit-clinic-a",
        "primia infer data.root=today/thorax.dcm kit=kit-clinic-a output=results",
        "primia infer data.root=today kit=kit-clinic-a prefetch=50 batch=4",
        "primia infer data.root=today kit=kit-clinic-a audit=true",
        "primia infer data.root=today kit=kit-clinic-a resume=results  # after an interruption",
        "primia infer data.root=inbox kit=kit-clinic-a watch=true prefetch=200",
        "primia infer data.root=inbox watch=true watch_new_only=true idle_stop=3600",
    ),
    config_name="commands/inference/infer",
    schema=InferArguments,
    run=_run,
    positional="server",
)
