"""Names of the records in a message, of the routes, and of the records' keys."""

# Records of a message
ARRAYS = "arrays"
CONFIG = "config"
METRICS = "metrics"
SITE = "site"

# Names of the routes
STATISTICS = "statistics"

# Keys of the records
ROUND = "server-round"
SITE_NAME = "name"
WEIGHT = "weight"
LOSS = "loss"  # mean over the validation images, of the model that came to the site
NUM_EXAMPLES = "num-examples"
NUM_BATCHES = "num-batches"
NUM_VAL = "num-val"
OUTPUTS = "outputs"
RESTING = "resting"  # the site would rather not train any more
DECLINED = "declined"  # the site's numbers are not finite, or beyond the agreed ranges
PIXEL_MEAN = "pixel-mean"
PIXEL_STD = "pixel-std"
LABEL_COUNTS = "label-counts"
INCOMING = "incoming"  # prefix: the global model, as it arrived, on the site's validation data
OWN_ROUND = "own-round"  # of which round a site's own layers belong to the model
RESULT = "result"  # the model is the run's result: a site saves it with its own layers
LOCAL = "local"  # prefix: the site's own model after its training

# In a search: which configuration of the population, and its values as JSON
TRIAL = "search-trial"
VALUES = "search-values"

# In runs with differential privacy
LEDGER = "ledger"  # the record of a reply with the heads of privacy ledgers that a site knows
HEADS = "heads"
