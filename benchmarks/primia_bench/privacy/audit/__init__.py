"""Parts of `primia_bench.privacy.audit.__main__`: attacks on the private mechanisms, and what they are held to."""
