"""Plans by the default planner next to first-order plans: times, returns, memory.

`python -m benchmarks.planning [--quick] [--out FILE] [--seeds N]`
"""
