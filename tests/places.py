"""Where the checkout is that is tested, and where its benchmarks write what they measured."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BENCHMARK_RESULTS = ROOT / "docs" / "benchmarks"
