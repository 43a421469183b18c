"""How fast, and how large: our way beside others' on the same rows, in the same run. Start with bench_features."""
