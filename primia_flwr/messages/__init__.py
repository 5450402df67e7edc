"""Models, measurements, ledger heads and secure sums as Flower records, and back.

What one side packs the other checks before it counts. `secure` must not import torch. Imports
`secagg`, the tasks and the configuration; both apps and `runs` import it.
"""
