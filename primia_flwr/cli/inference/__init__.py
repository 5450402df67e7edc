"""`primia infer`, `primia serve` and `primia inference`."""
