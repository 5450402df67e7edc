"""Systems of the review that are compared and not recommended: what each gives, and its break.

`homomorphic`, `more` and `split` print figures of their own; none is part of the product.
"""
