"""The table of the systematic review, measured: one row a system, the same patients for all.

`systems` names the rows, `patients` deals the images, `measured` runs and reads, `page` writes
`docs/review.md`, `picture` draws. Run `python -m primia_bench.review`.
"""
