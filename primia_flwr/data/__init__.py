"""Data: from files to labelled images, split by patient, with their statistics.

`layouts` read a folder into a `manifest`, by the means of `reading`; `split` deals patients,
`files` decode once and keep, `dataset` is one site's images; `drawing` makes synthetic ones.
Imports the configuration and `storage`; training, the pipeline and both apps import it.
"""
