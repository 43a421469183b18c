"""How a model is made and judged.

`data` splits an extract in time and refuses what cannot make a model, `estimator` makes what the contract declares and
the simple models beside it, `search` tries hyper-parameters, `fitting` puts these together. `evaluation` says how good
the result is and how sure that is (`resampling`), `gate` whether it may replace the champion, `plots` shows it. All are
pure: frames and arrays in, values out, and every seed is fixed.
"""
