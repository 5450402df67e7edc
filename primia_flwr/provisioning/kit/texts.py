"""The texts of a kit that provisioning writes: a site's policy and its README."""

from primia_flwr.provisioning.roster import Roster, RosterSite

_SITE_YAML = """\
# What {site} allows. The hospital edits this file; it is read anew for every message.
# `primia site policy` shows how it is understood, `primia site check` whether all is ready.

site: {site}
superlink: "{superlink}"

# --- Your data: a folder of images, or a table of them. Never copied, never sent. ---------
data_root: ""                 # e.g. /data/chest
data_layout: auto             # auto | folder | manifest | paired | msd | chexpert | nih | ...
data_manifest: ""             # a CSV (path,label,patient), if data_layout is manifest
# What a label is: a class (classification), a mask (segmentation) or several findings (multilabel);
# other runs are refused. Their names, of masks in the order of the values; empty: as a run says.
data_task: classification
data_classes: []              # e.g. [background, lesion]
data_mask_values: []          # e.g. [0, 255]; empty: 0, 1, 2 ... or as a run says
# Who is a patient: you say so, never the coordinator. A regular expression over the path in the
# layout folder, e.g. '(?P<patient>\\d+)_'; empty: a DICOM's PatientID, else the image's folder.
patient_pattern: ""
patient_column: patient       # of the CSV
data_columns: {{}}              # of the CSV, e.g. {{path: Image Index, label: Finding}}
device: auto                  # auto | cpu | cuda | cuda:0

# --- What may happen here -----------------------------------------------------------------
# Code that may run, by SHA-256. `primia site approve <64 digits>` adds a line.
approved_bundles: []
# Names of the experiments that may run, e.g. [pneumonia]; "*" allows any.
allowed_experiments: []
# Kinds of messages: train, evaluate, query, or one of them by name (query.statistics).
allowed_messages: [train, evaluate, query]
# Refuse runs that would go on with fewer sites than this.
min_sites: {min_sites}
# Refuse runs in which the coordinator sees this site's own update (plain averaging).
require_secure_aggregation: true
# Take part where other hospitals are given the model that this site has trained (relays, and what
# compares models across sites): no | private (a relay with dp_sgd, within max_epsilon) | yes
allow_relay: no
# In a secure run: sites in any sum, and sites that may work together with the coordinator.
min_survivors: 3
max_colluding: 0
# Answer sums over any lists of sites; their differences then show single sites. false: this site
# waits for the others instead. A day, e.g. "2026-11-29": lists of before are forgotten.
allow_other_survivors: false
member_lists_since: ""
# Refuse rounds that train on fewer images of yours; digits of their number that leave.
min_round_images: 4
count_digits: 2
# The most that all runs together may cost one of your patients (epsilon), at privacy_delta. Above
# 0, runs without differential privacy are refused: they have no epsilon. 0: no ceiling.
max_epsilon: 0
privacy_unit: patient         # patient (with all images) | image; fixed like the delta
privacy_delta: 1.0e-5         # below 1 / number of patients; fixed once a private run has begun
# Private runs begin with random weights, or with models listed here by SHA-256: list one only if
# none of your patients was in its training. The site's log names what was refused.
initial_weights: []
# any | known: all runs begin with random weights, published ones that you have installed, or these.
allow_weights: any

# --- Your own alerts ------------------------------------------------------------------------
# A program of yours and its arguments; it gets each event as JSON on its standard input. No shell.
on_event: []                  # e.g. [./page.sh, radiology]
on_event_kinds: [stored, refused, failed, given-up, warning, stopped]

# --- Files of this kit (relative to this file) ----------------------------------------------
root_certificates: ca.crt
supernode_key: supernode.key
identity_key: identity.key
roster: roster.yaml
state: state                  # log, arrived bundles, private training state
"""

_README = """\
# Start-up kit of {site} for the federation {federation}

This folder makes your computer a site of the federation. It holds two private keys
(`supernode.key`, `identity.key`): never send them to anybody, the coordinator included.

1. Install Python 3.11 or newer, then the software. {software}
2. Compare these fingerprints with the coordinator by phone, not by e-mail:
   - CA of the federation: `{ca_fingerprint}`
   - your SuperNode key: `{supernode_fingerprint}`
   - your identity: `{identity_fingerprint}`
   Better, make your own identity: `primia site identity new=true`, and send `{site}.pub` to all.
3. Edit `site.yaml`: where your images are (`data_root`), which experiments you allow
   (`allowed_experiments`).
4. `primia site check` says whether data, keys, clock, link, disk and device are ready.
5. `primia site run` connects to {superlink}. Nothing listens on your side: the connection goes
   out, and no port must be opened for incoming traffic. So that it starts with the computer, see
   `{unit}` (systemd).

You had a kit before? Copy `supernode.key`, `identity.key`, `ca.crt` and `roster.yaml` into its
folder; your own `site.yaml` and `state/` stay.

When the coordinator starts an experiment, its code arrives here and is **refused** until you
approve it:

    primia site review                 # what has arrived
    primia site review <hash>          # its files; add file=<path> to read one
    primia site approve <64 digits>    # this code may run here from now on; the whole hash
    primia site policy                 # what you allow
    primia site log                    # who asked for what, what left the house

Images never leave your house. What leaves is what the approved code sends: model arrays and
counts. Each message is written to the log, with its size, before it leaves.
"""


def site_yaml(site: RosterSite, roster: Roster, *, min_sites: int) -> str:
    """Return the policy that a site starts with: nothing is approved, nothing is allowed."""
    return _SITE_YAML.format(site=site.name, superlink=roster.superlink, min_sites=min_sites)


def readme(site: RosterSite, roster: Roster, software: str) -> str:
    """Return the README of a site's kit; `software` says how it is installed."""
    return _README.format(
        software=software,
        unit=f"primia-site-{site.name}.service",
        site=site.name,
        federation=roster.federation,
        superlink=roster.superlink,
        ca_fingerprint=roster.ca_fingerprint,
        supernode_fingerprint=site.supernode_fingerprint,
        identity_fingerprint=site.identity_fingerprint,
    )
