"""Where the benchmarks keep what can be made again: `.bench/` in the repository, unknown to git."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
BENCH = ROOT / ".bench"
VENVS = BENCH / "venvs"
DATA = BENCH / "data"
LOGS = BENCH / "logs"

TEXT_MODEL = DATA / "text-classifier"  # Hugging Face directories
IMAGE_MODEL = DATA / "resnet18"
VECTOR_MODEL = DATA / "product"  # weight.npy, 64 x 8, and vector.pt2
