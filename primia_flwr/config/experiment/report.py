"""What a run's report shows beyond its figures; nothing here decides a result."""

from dataclasses import dataclass

from primia_flwr.config.checks import check_range


@dataclass
class ReportConfig:
    """What is drawn into the report.

    `saliency`: of each class, how many of the most confident right and how many of the most
    confident wrong test images are shown with their Grad-CAM maps, or of a segmentation how many of
    the worst, the middle and the best (5 at most) with their masks; 0: none. It needs test images
    where the report is written, and puts them into the page.
    """

    saliency: int = 2

    def __post_init__(self) -> None:
        check_range("report.saliency", self.saliency, 0, 20, example=2)
