"""Decoding calls that read nothing of anybody else's, each with the reason.

Whatever is not here must be reached by a target on its examples.
"""

from __future__ import annotations

from tests.fuzz.loaders.discovery import Site

OWN = "decodes bytes that this package made a moment ago"
PROGRAM = "reads what another program of this installation wrote or printed"
RELEASE = "reads an own answer that the ledger's key authenticates (target `kept release`)"
SEALED = "a block that the sealed store gave back unchanged"
KERNEL = "reads two numbers that the kernel writes"
LINE = "reads a few bytes of a frame whose length the channel has bound (target `frames`)"

CONF = "reads a YAML file of this installation's conf/ or of a plugin that runs anyway"

REASONS: dict[str, str] = {
    "primia_flwr.cli.help._all_notes": CONF,
    "primia_flwr.cli.help._default": CONF,
    "primia_flwr.cli.help._groups": CONF,
    "primia_flwr.cli.help._notes": CONF,
    "primia_flwr.cli.system.open_streams": "opens the standard streams of this process",
    "primia_flwr.cli.new.write._run": "reads a template of this package",
    "primia_flwr.attacks.inversion.page.page": OWN,
    "primia_flwr.inference.overflow.check.Ledger.digest": OWN,
    "primia_flwr.data.seeding.generator": OWN,
    "primia_flwr.provisioning.certificates.openssh_public": OWN,
    "primia_flwr.provisioning.kits.zip_kit": OWN,
    "primia_flwr.provisioning.kit.wheel.make_wheel": "packs files of this installation",
    "primia_flwr.provisioning.kit.wheel._files": "packs files of this installation",
    "primia_flwr.provisioning.kit.wheel._record": OWN,
    "primia_flwr.site.bundle.own_app._digests": "hashes files of this installation",
    "primia_flwr.site.watch.alerts.run_command": PROGRAM,
    "primia_flwr.messages.ledger_heads.LedgerHead.signed": OWN,
    "primia_flwr.messages.sharing.told_text": OWN,
    "primia_flwr.messages.packing._save_raw": OWN,
    "clients.mods.lineage.signed": OWN,
    "strategies.aggregators.relay.aggregator.RelayAggregator._message": OWN,
    "primia_flwr.provisioning.service_changes.ServiceFolder._added": OWN,
    "primia_flwr.trials.loopback.LoopbackFederation.edit_policy": OWN,
    "primia_flwr.privacy.mechanisms.randomness._keyed": OWN,
    "primia_flwr.privacy.mechanisms.randomness.keyed_generator": OWN,
    "primia_flwr.secagg.payload.layout.Layout.spoiled": OWN,
    "primia_flwr.training.device.derive_seed": OWN,
    "primia_flwr.cli.runs.log._flowers": PROGRAM,
    "primia_flwr.flower.imported._names": PROGRAM,
    "primia_flwr.trials.service.ask": PROGRAM,
    "primia_flwr.cli.inference.trial.run": PROGRAM,
    "primia_flwr.cli.inference.trial.compare": PROGRAM,
    "primia_flwr.processes.children.Child.log_tail": PROGRAM,
    "primia_flwr.processes.programs.make_stand_in": PROGRAM,
    "primia_flwr.site.executor.main": PROGRAM,
    "clients.mods.dp_update._NoisySteps.kept": RELEASE,
    "clients.mods.dp_statistics._charged_sums": RELEASE,
    "primia_flwr.synthesis.release._kept": RELEASE,
    "primia_flwr.inference.service.data_owner.Session._begin": LINE,
    "primia_flwr.inference.service.model_owner._begun": LINE,
    "primia_flwr.inference.preprocessing.prefetch.Prefetch._open": SEALED,
    "primia_flwr.processes.room.available_bytes": KERNEL,
    "primia_flwr.data.files.decoding.worker.main": OWN,
    "primia_flwr.data.files.decoding.worker._limit_memory": KERNEL,
    "primia_flwr.data.files.decoding.workers._Worker.ask": PROGRAM,
    "primia_flwr.data.files.regular.open_regular": "opens a file, and decodes none",
    "primia_flwr.models.weights_card._card_of": "hashes bytes, and decodes none",
    "primia_flwr.models.pretrained.PackagedWeights.load": "hashes bytes, and decodes none",
    "primia_flwr.models.origin._sha256": "hashes bytes, and decodes none",
    "clients.handlers.first_weights._has_begun": "a note of this site's own; others are as none",
    "primia_flwr.provisioning.nodes._control": "hands a certificate to Flower, which reads it",
}


def reason(site: Site) -> str:
    """Return why a call needs no target; nothing where it does."""
    return REASONS.get(site.loader, "")
