"""The rows of the review's table: a system, its source, its settings, who sees what of a site."""

from dataclasses import dataclass

SECURE, PLAIN = "aggregation=secure", "aggregation=plain"
COORDINATOR, NEXT_SITE = "coordinator", "next hospital"
LOCAL, POOLED = "local", "centralised"


@dataclass(frozen=True)
class System:
    """One row.

    `overrides`: of `primia train`. `baseline`: read from the baselines of the plain run instead.
    `sees`: parties that get bytes of one site, each with the attack on them. `recorded`: settings
    of the run in which these bytes can be recorded, where they are others. `trusted`: who must be
    honest for that site's images to stay its own. `updates`: which a round takes, 0 for all sites'.
    """

    name: str
    source: str
    trusted: str
    overrides: tuple[str, ...] = ()
    baseline: str = ""
    sees: tuple[tuple[str, str], ...] = ()
    recorded: tuple[str, ...] = ()
    quick: bool = False
    updates: int = 0

    @property
    def one_round(self) -> bool:
        """Whether the run has one round only."""
        return "strategy=single" in self.overrides

    @property
    def private(self) -> bool:
        """Whether its updates are noised."""
        return any(word.startswith("privacy=") for word in self.overrides)

    @property
    def secure(self) -> bool:
        """Whether updates are masked."""
        return SECURE in self.overrides


DP = ("privacy=dp_sgd", "model.norm=group", "privacy.epsilon=8", "privacy.expected_batch=32",
      "privacy.delta=1e-3", "privacy.steps=8", "training.local_epochs=1")  # fmt: skip
# The settings of `experiment=pneumonia_private`, with the steps and patients of the others here.
FEATURES = (
    *DP, "model=scattering", "training=sgd", "training.momentum=0", "training.weight_decay=0",
    "training.schedule=constant", "training.warmup=0", "training.learning_rate=0.4",
    "training.min_learning_rate=0.4", "training.label_smoothing=0",
    *(f"data.augmentation.{part}.probability=0"
      for part in ("affine", "brightness", "contrast", "noise")),
    "data.augmentation.flip.horizontal=0",
)  # fmt: skip
ASYNCHRONOUS = "aggregation=asynchronous"
SYSTEMS = (
    System("pooled: all images in one place", "", "whoever holds the images", baseline=POOLED,
           quick=True),
    System("each hospital by itself", "", "nobody", baseline=LOCAL, quick=True),
    System("federated averaging, plain", "McMahan et al. 2017", "the coordinator", (PLAIN,),
           sees=((COORDINATOR, "received_update"),), quick=True),
    System("federated averaging, secure sums", "PriMIA 2021; Bonawitz et al. 2017",
           "the other hospitals but one", (SECURE,),
           sees=((COORDINATOR, "masked_update"), (COORDINATOR, "secure_sum")), quick=True),
    System("secure sums, DP-SGD at epsilon 8", "PriMIA 2021; Abadi et al. 2016", "nobody",
           (SECURE, *DP), sees=((COORDINATOR, "masked_update"),), quick=True),
    System("secure sums, DP-SGD at epsilon 8, fixed wavelets", "Tramèr, Boneh 2021", "nobody",
           (SECURE, *FEATURES), sees=((COORDINATOR, "masked_update"),)),
    System("asynchronous rounds, plain", "FedBuff: Nguyen et al. 2022", "the coordinator",
           (ASYNCHRONOUS,), sees=((COORDINATOR, "received_update"),), recorded=(PLAIN,),
           updates=3),
    System("selective sharing, a tenth, secure sums", "Shokri, Shmatikov 2015",
           "the other hospitals but one", (SECURE, "aggregation.share=0.1"),
           sees=((COORDINATOR, "masked_update"),), recorded=(SECURE,)),
    System("selective sharing, a tenth, its own choice", "Shokri, Shmatikov 2015",
           "the coordinator", (PLAIN, "aggregation.share=0.1", "aggregation.share_by=own"),
           sees=((COORDINATOR, "received_update"),)),
    System("cyclic transfer", "Chang et al. 2018", "coordinator and next hospital",
           ("strategy=cyclic",), sees=((NEXT_SITE, "relayed_model"),), quick=True),
    System("cyclic transfer, sealed", "Phong, Phuong 2019", "the next hospital",
           ("strategy=cyclic", "aggregation.sealed=true", "data.normalisation.kind=fixed"),
           sees=((NEXT_SITE, "relayed_model"),), recorded=("strategy=cyclic",)),
    System("cyclic transfer, DP-SGD at epsilon 8", "Beaulieu-Jones et al. 2018", "nobody",
           ("strategy=cyclic", *DP)),
    System("one pass from site to site", "Chang et al. 2018", "coordinator and next hospital",
           ("strategy=single",), sees=((NEXT_SITE, "relayed_model"),),
           recorded=("strategy=cyclic",)),
    System("ensemble, mean vote", "Chang et al. 2018", "the coordinator", ("strategy=ensemble",),
           sees=((COORDINATOR, "received_update"),), recorded=(PLAIN,)),
    System("ensemble, tested by the others", "InsuLearn: Amir-Khalili et al. 2017",
           "the coordinator", ("strategy=ensemble", "strategy.options.vote=insulearn"),
           sees=((COORDINATOR, "received_update"),), recorded=(PLAIN,)),
)  # fmt: skip

# What a coordinator that attacks may try: its name in `moves`, and what a page says of it.
GATE_MOVES = {
    "another bundle": "code that was not approved",
    "fewer sites": "two sites are enough",
    "in the clear": "masks or seals off",
    "without noise": "noise off",
}
APP_MOVES = {
    "more epsilon": "epsilon 16",
    "two lists": "a second sum without one site",
    "one alone": "one site's numbers",
    "told otherwise": "one site is told another run",
    "crafted": "a crafted model for all",
}

_BESIDE = "measured by itself: [compared](strategies/compared.md)"
NOT_RUN = {
    "homomorphic sums": f"Aono, Phong et al. 2017; {_BESIDE}",
    "matrix encryption (MORE), and training on shares": f"Vizitiu et al. 2019; {_BESIDE}",
    "first layer at the hospital": f"Jeon et al. 2019; {_BESIDE}",
    "Privacy-Net": f"Kim et al. 2019; {_BESIDE}",
    "federated U-Net": "Sheller et al. 2018; measured by itself: [segmentation](segmentation.md)",
    "P3SGD": "Wu et al. 2019; takes patients one by one, too slow for a row; measured by itself: "
    "[privacy](differential-privacy.md)",
    "DP-CGAN": "Torkzadehmahani et al. 2019; measured by itself: [synthetic images]"
    "(synthetic-images.md)",
    "ATMOSPHERE": "Blanquer et al. 2019; files that were not run: [containers](containers.md)",
    "HE-CLSTM": "Yue et al. 2019; measured by itself: [sequences](encrypted-sequences.md)",
    "NiftyNet": "Gibson et al. 2018; measured by itself: [segmentation](segmentation.md)",
}
"""Systems of the review without a row, and where else they are measured."""
