"""What a reconstructed image is worth: likeness, the patient it points to, the significance.

`scores` puts the rows together from `measures`, `identification`, `significance` and the networks
that somebody gives (`given_networks`). Imports the attack's runner and ground truth; the pictures,
the page and `cli/analysis/attack` import it, the attack itself never does.
"""
