"""What a model says of each image: predictions on disk, and explanations of single cases.

The figures themselves are the tasks' and `statistics`'. Imports `tasks` and `storage`; the
pipeline, the runs and the attacks import it.
"""
