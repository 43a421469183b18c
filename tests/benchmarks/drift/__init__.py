"""How well, and how cheaply, drift is told from chance: ours, the article's rule, Evidently and NannyML."""
