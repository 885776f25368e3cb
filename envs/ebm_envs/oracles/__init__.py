"""Oracles: the best returns found on the true environments, as a reference for every score."""

from ebm_envs.oracles.arm7 import arm7_oracle
from ebm_envs.oracles.crane import crane_oracle
from ebm_envs.oracles.plane import maze_oracle, particle_oracle
from ebm_envs.oracles.reacher import reacher_oracle
from ebm_envs.oracles.result import OracleResult

__all__ = ["OracleResult", "arm7_oracle", "crane_oracle", "maze_oracle", "particle_oracle", "reacher_oracle"]
