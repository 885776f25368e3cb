"""Goal environments for planning with energies: `ebm/Particle-v0`, `ebm/Maze-v0`, `ebm/Reacher-v0`, `ebm/Arm7-v0`.

`ebm/Fork-v0` has no goals but multimodal transitions, for prediction. `ebm/Crane-v0` has none but a reward for control.

Importing this package registers them with Gymnasium: `import ebm_envs`, then `gym.make("ebm/Maze-v0")`, or both at
once, `gym.make("ebm_envs:ebm/Maze-v0")`. (Gymnasium 1.0 and later do not load plugins by themselves.)
"""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

__all__ = ["register_envs"]

# Entry points are strings, so that the point environments do not load MuJoCo.
_ENVIRONMENTS = {
    "ebm/Particle-v0": ("ebm_envs.particle:ParticleEnv", 50),
    "ebm/Maze-v0": ("ebm_envs.maze:MazeEnv", 200),
    "ebm/Reacher-v0": ("ebm_envs.reacher:ReacherEnv", 50),
    "ebm/Arm7-v0": ("ebm_envs.arm7:Arm7Env", 200),
    "ebm/Fork-v0": ("ebm_envs.fork:ForkEnv", 20),
    "ebm/Crane-v0": ("ebm_envs.crane:CraneEnv", 100),
}


def register_envs() -> None:
    """Register every environment with Gymnasium; a second call changes nothing."""
    for name, (entry_point, steps) in _ENVIRONMENTS.items():
        if name not in registry:
            register(id=name, entry_point=entry_point, max_episode_steps=steps)


register_envs()
