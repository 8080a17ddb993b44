"""A study for each paper, and one over all of them; `experiments/study.py` runs them."""
