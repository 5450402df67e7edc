"""When training stops before its end: `early` within a round and over rounds, `site` for good.

Both judge by a metric of the task and keep their state as plain values, which a checkpoint and a
site's own state hold. Imports the configuration and the task; training, clients and strategies
import it.
"""
