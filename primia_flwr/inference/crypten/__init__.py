"""CrypTen's own protocols on our lines: `protocol=crypten`, the yardstick.

`door` is the only module that imports crypten. Imports arithmetic, lowering and transport of
`inference`; only the service imports it.
"""
