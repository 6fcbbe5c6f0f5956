"""Random input against what reads from outside: `python -m fuzz`. See runner.py."""
