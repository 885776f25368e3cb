"""The best returns that the true environments allow: the figure to print beside every score."""

from ebm_envs.oracles.arm import reacher_oracle
from ebm_envs.oracles.plane import maze_oracle, particle_oracle
from ebm_envs.oracles.result import OracleResult

__all__ = ["OracleResult", "maze_oracle", "particle_oracle", "reacher_oracle"]
