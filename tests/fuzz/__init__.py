"""Coverage-guided fuzzing with atheris, for as long as one likes: `python -m tests.fuzz.review SECONDS`, `… .http`."""
