"""`python -m tests.chaos`: faults in a seeded random order under load, and the rules that hold all along."""
