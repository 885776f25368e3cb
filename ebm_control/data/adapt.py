"""An environment whose observations and actions are vectors, around one with other spaces or hidden velocities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict
from numpy.typing import NDArray

from ebm_control.checks import require, require_number
from ebm_control.data.actions import as_actions
from ebm_control.data.environments import EnvLike, action_box, make_env, observation_box
from ebm_control.data.forms import FlatForm
from ebm_control.data.normalizer import Normalizer
from ebm_control.data.spaces import (
    GOALS,
    flat_actions,
    flat_box,
    flat_observation,
    form_of_spaces,
    is_vector,
    native_actions,
    rows_of,
    state_space,
)

Array = NDArray[np.float64]


class FlatEnv(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """The environment with vectors as observations and actions; see `adapt`.

    Gymnasium's own wrappers do parts of this: `FlattenObservation` flattens goals too, and `FrameStackObservation`
    neither takes dictionaries nor keeps the actions between observations, from which velocities are inferred.

    Attributes:
        form: meaning of the coordinates; `form.parts` has the slices of named parts.
        native: the environment's last observation in its own form.

    """

    def __init__(self, env: gym.Env[Any, Any], history: int = 1) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, history=history)
        gym.Wrapper.__init__(self, env)
        self.form = form_of_spaces(env.observation_space, env.action_space, history)
        frame = flat_box(env.observation_space)
        actions = flat_actions(env.action_space)
        self.action_space = actions
        box = _stacked(self.form, frame, actions)
        goals = {}
        if isinstance(env.observation_space, Dict):
            goals = {
                name: env.observation_space[name] for name in GOALS if name in env.observation_space.spaces
            }
        self.observation_space = Dict({"observation": box, **goals}) if goals else box
        self.native: Any = None
        self._frame: Array = np.zeros((1, self.form.frame))
        self._past = self.form.begun(self._frame)

    @property
    def parts(self) -> dict[str, slice]:
        """Slices of an observation's coordinates by name, see `FlatForm.parts`."""
        return self.form.parts

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, with the first observation as the whole history."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observed(observation, None), info

    def step(self, action: Any) -> Any:
        """Take the action that the vector stands for."""
        flat = as_actions(action, self.action_space)[None]  # type: ignore[arg-type]
        found: Any = self.env.step(rows_of(native_actions(self.env.action_space, flat), 0))
        if not (isinstance(found, tuple) and len(found) == 5):
            return found  # whoever steps the environment refuses it
        observation, *rest = found
        return (self._observed(observation, np.asarray(flat, np.float64)), *rest)

    def _observed(self, observation: Any, action: Array | None) -> Any:
        """The observation as a vector, after an action (None: the first one)."""
        self.native = observation
        flat = flat_observation(self.env.observation_space, observation)
        state = flat["observation"] if isinstance(flat, Mapping) else flat
        frame = np.asarray(state, np.float64)[None]
        self._past = (
            self.form.begun(frame) if action is None else self.form.advanced(self._frame, self._past, action)
        )
        self._frame = frame
        whole = np.concatenate([frame, self._past], axis=1)[0]
        return {**flat, "observation": whole} if isinstance(flat, Mapping) else whole


def _stacked(form: FlatForm, frame: Box, actions: Box) -> Box:
    """The Box of observations with their history."""
    if form.history == 1:
        return Box(frame.low.astype(np.float64), frame.high.astype(np.float64), dtype=np.float64)
    low, high = (
        np.concatenate([side, *[np.concatenate([side, rest])] * (form.history - 1)]).astype(np.float64)
        for side, rest in (
            (frame.low, np.minimum(actions.low, 0)),  # before the first action there are zeros
            (frame.high, np.maximum(actions.high, 0)),
        )
    )
    return Box(low, high, dtype=np.float64)


def adapt(env: EnvLike, history: int = 1) -> gym.Env[Any, Any]:
    """The environment with vectors as observations and actions, as models take them.

    Every entry point does this by itself. It is public for the names of coordinates (`adapt(env).parts`) and for loops
    of your own. Policies and agents go on to see the environment as it is, unless they get this one.

    - Observations: Dict and Tuple entries one after the other, in the order of `gymnasium.spaces.flatten`. Of a Dict
      with goals or with an entry "observation", that entry comes first, then others that are vectors, no images; goals
      stay goals. Discrete values become one-hot. Arrays of two or more axes become vectors.
    - Actions: a discrete action is one-hot, and the environment gets the value of the greatest coordinate.
    - `history=k`: the last `k` observations with the actions between them, the latest first, see `FlatForm`. For
      velocities that one observation does not show.

    Args:
        env: environment, its id, or a function that makes it.
        history: observations that a state holds.

    Returns:
        The environment itself if its spaces are vectors already and `history` is 1, else a `FlatEnv`.

    Raises:
        InputError: a space has no form as a vector (images, text, graphs, sequences): the message says which.

    """
    require_number("history", history, 1, whole=True)
    made = make_env(env)
    if history > 1:
        before = flat_env(made)
        require(
            before is None, "history", given=history, expected="1 for an environment that is adapted already"
        )
    if form_of(made, history) is None or flat_env(made) is not None:
        return made
    return FlatEnv(made, history)


def form_of(env: gym.Env[Any, Any], history: int = 1) -> FlatForm | None:
    """How an environment's spaces become vectors; None if they are vectors, and `history` is 1.

    Raises:
        InputError: see `adapt`.

    """
    flat = flat_env(env)
    if flat is not None:
        return flat.form
    seen, acted = state_space(env.observation_space), env.action_space
    if history == 1 and is_vector(seen) and is_vector(acted) and _bare(env.observation_space):
        return None
    return form_of_spaces(env.observation_space, acted, history)


def _bare(space: gym.Space) -> bool:
    return not isinstance(space, Dict) or "observation" in space.spaces


def adapted_to(env: gym.Env[Any, Any], normalizer: Normalizer) -> gym.Env[Any, Any]:
    """The environment adapted as the data of a model were.

    Raises:
        InputError: its spaces are not those that the model was trained on.

    """
    history = 1 if normalizer.form is None or flat_env(env) is not None else normalizer.form.history
    made = adapt(env, history)
    require_data_of(made, normalizer)
    return made


def require_data_of(env: gym.Env[Any, Any], normalizer: Normalizer) -> None:
    """Raise `InputError` unless the vectors of an adapted environment are those of a model's data."""
    here, known = form_of(env), normalizer.form
    given, expected = ("vectors" if form is None else str(form) for form in (here, known))
    hint = "; own data get a form by RolloutBuffer(form=adapt(env).form)" if known is None else ""
    require(here == known, "env", given=given + hint, expected=f"{expected}, which the model was trained on")
    dims = observation_box(env.observation_space).shape[0], action_box(env.action_space).shape[0]
    layout = normalizer.layout
    wanted = f"{layout.obs_dim} observation and {layout.act_dim} action coordinates"
    require(
        dims == (layout.obs_dim, layout.act_dim),
        "env",
        given=f"{dims[0]} and {dims[1]}",
        expected=f"{wanted}, which the model was trained on",
    )


def flat_env(env: gym.Env[Any, Any]) -> FlatEnv | None:
    """The `FlatEnv` among an environment's wrappers, or None."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, FlatEnv):
            return env
        env = env.env
    return None
