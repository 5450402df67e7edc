"""`primia evaluate`, `primia compare`, `primia attack`: what a finished run is worth.

`scored_data` and `compared_runs` say on which images, `attack_result` what an attack leaves.
Imports the pipeline, the tasks and, as the only room, the attacks.
"""
