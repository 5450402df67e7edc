"""`primia infer`, `primia serve` and `primia inference`: encrypted inference, each party's command.

`infer` and `watch` share their `work` and its `sessions`; `serve_*` listen by `service`.
Imports `inference`, `models` and `provisioning`.
"""
