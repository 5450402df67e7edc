"""The pictures of one segmentation: Dice of each image, class by class."""

import numpy as np

from primia_flwr.plotting import Plot, drawing, line_style, to_plot
from primia_flwr.tasks.masks.scores import score_cases
from primia_flwr.tasks.predictions import Predictions


def dice_of_images(predictions: Predictions) -> Plot:
    """Draw the Dice of each image from the worst to the best, a line a class."""
    names = predictions.names
    dice = score_cases(predictions.labels, predictions.outputs, len(names)).values["dice"]
    words = []
    with drawing(6.2, 3.8, grid="both") as (figure, axes):
        for k, name in enumerate(names[1:]):
            known = np.sort(dice[~np.isnan(dice[:, k]), k])
            if not known.size:
                continue
            share = (np.arange(known.size) + 0.5) / known.size
            style = line_style(k, marker=False)
            axes.plot(100 * share, known, label=name, **style)
            low, middle = np.percentile(known, (10, 50))
            words.append(f"{name}: median {middle:.2f}, a tenth below {low:.2f}")
        axes.set(xlim=(0, 100), ylim=(0, 1.02), xlabel="images, % from the worst", ylabel="Dice")
        if words:
            axes.legend(loc="lower right")
    return to_plot("dice", figure, f"Dice of each image, sorted. {'; '.join(words)}.")
