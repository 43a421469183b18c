"""Serving: the store that services read features from, and the tracker of what models were asked and said."""
