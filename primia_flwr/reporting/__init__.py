"""Pages, tables and cards for people, self-contained, from the files of a run.

`report` is a run's page of `chapters`, `compare_page` a comparison's, `model_card` the model's;
`plots` draws. Imports `runs`, tasks, and how tables, pictures and numbers look; the pipeline, the
search and the attacks import it.
"""
