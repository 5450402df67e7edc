"""The exceptions of primia_flwr.

Every error that a user can cause derives from `PrimiaError`; the command line prints its
message as one sentence (field or file, value, what was expected, remedy) and no traceback.

PrimiaError
├── ConfigError (ValueError)    a configuration key or value
├── MissingExtraError           a package of an optional extra is not installed
├── DataError                   a file, a folder or a manifest
├── CheckpointError             a checkpoint that cannot be written, read or used
├── TrackingError               experiment tracking
├── FederationError             SuperLink, SuperNodes, certificates, ports
├── ProtocolError               a message that breaks the agreed protocol
│   └── DivergenceError         numbers out of range: a training that has diverged
├── ServiceError                encrypted inference: a party, its link, its store
├── PolicyRefusal               a site's policy says no
├── SiteFailure                 what a deployed site says of any error, whatever went wrong
└── PrivacyBudgetError          a release would pass the privacy budget
"""

FAILED_AT_SITE = "the site could not answer; the reason is in the site's own log"


class PrimiaError(Exception):
    """Base of all errors that primia_flwr raises on purpose."""


class ConfigError(PrimiaError, ValueError):
    """A configuration key is unknown, has the wrong type, or is out of range."""


class MissingExtraError(PrimiaError):
    """What was asked for needs a package that the base install does not bring."""


class DataError(PrimiaError):
    """A data folder, file or manifest cannot be used."""


class CheckpointError(PrimiaError):
    """A checkpoint cannot be written, read, or belongs to another experiment."""


class TrackingError(PrimiaError):
    """Experiment tracking cannot start or upload."""


class FederationError(PrimiaError):
    """The SuperLink, a SuperNode, a certificate or a port cannot be used."""


class ProtocolError(PrimiaError):
    """A message does not follow the agreed protocol."""


class DivergenceError(ProtocolError):
    """A training has diverged: NaN, infinite, or too large for the range that was agreed."""


class ServiceError(PrimiaError):
    """A party of encrypted inference, its link or its store cannot be used."""


class PolicyRefusal(PrimiaError):  # noqa: N818 - a refusal is a right, not a failure
    """A site's policy does not allow what was asked of it."""


class SiteFailure(PrimiaError):  # noqa: N818 - what leaves a site is no diagnosis
    """A deployed site could not answer; why stays in its own log.

    Kinds and texts of errors depend on the site's images. A coordinator that chooses what a site
    works on could ask questions with them, one bit each.
    """

    def __init__(self) -> None:
        super().__init__(FAILED_AT_SITE)


class PrivacyBudgetError(PrimiaError):
    """A release would exceed the privacy budget."""
