"""From a trained network to steps in fixed point, with bounds for every number.

`folding` takes norm layers in, `builder` and `lowering` make the steps, `rehearsal`, `precision`
and `windows` say which ring holds. Imports arithmetic and the models' layers; overflow,
protocol and service import it.
"""
