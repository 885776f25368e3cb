"""The examples of the documentation run: all blocks of a page in order, with smaller numbers."""

import warnings

import numpy as np
import pytest
import torch

import ebm_control as ebm
from tests.data.readers.samples import (
    episodes,
    flat,
    of_steps,
    ogbench,
    write_flat,
    write_lerobot,
    write_robomimic,
)
from tests.docs.examples import DOCS, examples, run_page

pytestmark = pytest.mark.slow

PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if "```python" in path.read_text())
SMALL = "updates=4, base_updates=50"
ONLINE = "OnlinePreset(4, base=(32, 32), base_updates=20, reward_updates=20, acting={'environments': 1, 'warm_up': 40})"
NARROW = "ebm.ModelSettings(hidden=(32, 32), base_hidden=(32, 32))"


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("page", PAGES)
def test_every_python_block_is_an_example_with_a_name_of_its_own(page):
    names = [example.name for example in examples(page)]
    assert None not in names, f"{page} has a python block without <!-- example: name -->"
    assert len(set(names)) == len(names)


def test_every_page_with_examples_is_run_here():
    own = {test.page for test in globals().values() if hasattr(test, "page")}
    assert own == set(PAGES)


def runs(page):
    """Mark a test as the one that runs the examples of a page."""

    def mark(test):
        test.page = page
        return test

    return mark


@runs("quickstart.md")
def test_quick_start_saves_loads_and_predicts(capsys):
    scope = run_page(
        "quickstart.md",
        {
            "steps=10_000": "steps=3_000",
            "base_updates=2000, updates=50": "updates=4, base_updates=300",
            "max_episode_steps=100": "max_episode_steps=20",
        },
    )
    assert scope["futures"].states.shape == (1, 8, 20, 4)
    assert scope["model"].training.updates == 4
    assert scope["result"].mean >= 18, "random actions balance it for about 10 steps"


@runs("guides/own-environment.md")
def test_own_environment_is_controlled():
    scope = run_page(
        "guides/own-environment.md",
        {
            "updates=200": "updates=4, base_updates=300",
            "10_000": "2_000",
            "TimeLimit(Cart(), 60)": "TimeLimit(Cart(), 6)",
            'gym.make("ebm/Particle-v0")': 'gym.make("ebm/Particle-v0", max_episode_steps=13)',
            "TimeLimit(Crane(), 100)": "TimeLimit(Crane(), 10)",
            "learning = ": f"from ebm_control.online import OnlinePreset\npreset = {ONLINE}\nlearning = ",
            "make_crane, 5_000": "make_crane, 60, preset=preset",
        },
    )
    assert scope["learning"].progress.step == 60
    assert scope["learning"].experience.data.periods == (0, 2 * np.pi, 0, 0, 0, 0)
    assert scope["result"].success_rate == 1.0
    assert scope["result"].mean > -6.0
    env = scope["make"]()
    assert np.isfinite(env.reset(seed=0)[0]).all()


@runs("guides/own-data.md")
def test_own_data_are_added_merged_split_and_stored():
    small = "learner='feed-forward', rounds=2, preset=replace(PRESETS['offline'], base_updates=20, reward_updates=20)"
    scope = run_page(
        "guides/own-data.md",
        {
            "updates=200": SMALL,
            '"InvertedPendulum-v5", 5000': '"InvertedPendulum-v5", 300',
            '"InvertedPendulum-v5", rollouts': f'"InvertedPendulum-v5", rollouts, {small}',
            "import numpy as np": "import numpy as np; from dataclasses import replace; "
            "from ebm_control.online import PRESETS",
        },
    )
    assert len(scope["run"].experience.data) > 200
    assert len(scope["logs"]) == 2000
    assert len(scope["both"]) == 4000 == len(scope["same"])
    assert len(scope["held_out"]) + len(scope["rest"]) == 4000
    assert len(scope["held_out"]) == pytest.approx(400, abs=40)


@runs("guides/data-sets.md")
def test_data_sets_of_others_are_read(tmp_path):
    recorded = episodes(40, 30, 50)
    write_flat(tmp_path / "hopper_medium-v2", flat(recorded))
    write_flat(tmp_path / "kitchen_complete-v0", flat(recorded, (0, 1), timeouts=False, following=False))
    for name in ("cube-single-play-v0", "cube-single-play-v0-val"):
        write_flat(tmp_path / name, ogbench(recorded), ".npz")
    write_robomimic(tmp_path / "low_dim_v141", recorded)
    write_lerobot(tmp_path / "lerobot" / "pusht", recorded)
    ebm.to_minari(of_steps(recorded), "pointmaze/umaze-v2")
    scope = run_page("guides/data-sets.md", {"updates=200": SMALL})
    assert len(scope["rollouts"]) == len(scope["train"]) == len(scope["first"]) == 120
    assert [e.terminated for e in scope["demos"].episodes()] == [True, True]
    assert scope["hands"].shape == (72, 1)


@runs("guides/planning.md")
def test_planning_by_costs_parts_shooting_and_routes():
    scope = run_page(
        "guides/planning.md",
        {
            "updates=200": "updates=4, base_updates=300",
            'gym.make("ebm/Particle-v0")': 'gym.make("ebm/Particle-v0", max_episode_steps=5)',
            "steps=20_000": "steps=4_000",
            "steps=100_000": "steps=4_000",
            "updates=1000": "updates=20",
            "[::70]": "[::20]",
            "fit_guide(explored, index=(0, 1))": "fit_guide(explored, (0, 1), ebm.GuideSettings(nodes=100, "
            "training=ebm.TrainSettings(ebm.ModelSettings(base='gaussian', states_only=True, joint=True, "
            "hidden=(32,)), updates=20, loss='softplus')))",
        },
    )
    start, goal = scope["env"].reset(seed=0)[0], np.array([0.5, 0.5])
    start["desired_goal"] = goal
    action, plan = scope["over_actions"].predict(start)
    assert scope["env"].action_space.contains(action)
    assert (action > 0.02).all(), "towards the goal"
    assert plan.states.shape == (1, 13, 2)
    action, plan = scope["agent"].predict(scope["maze"].reset(seed=0)[0])
    assert scope["maze"].action_space.contains(action)
    assert plan.route.shape[-1] == 2


@runs("guides/prediction.md")
def test_predictions_have_the_shapes_of_the_page():
    scope = run_page(
        "guides/prediction.md",
        {
            "steps=20_000": "steps=2_000",
            'TrainSettings(loss="dsm")': f'TrainSettings({NARROW}, loss="dsm", {SMALL})',
            'states_only=True), loss="dsm"': f'states_only=True, hidden=(32, 32)), loss="dsm", {SMALL}',
            "horizon=20, samples=8)\nprint(error": "horizon=20, samples=2, windows=16)\nprint(error",
        },
    )
    assert scope["futures"].states.shape == (16, 8, 20, 3)
    assert torch.as_tensor(scope["futures"].states).isfinite().all()
    assert scope["error"].rmse.shape == (20,)


@runs("guides/online.md")
def test_online_learning_and_exploration_run():
    scope = run_page(
        "guides/online.md",
        {
            "steps=1000, environments=20": "steps=140, warm_up=100, environments=20",
            '"InvertedDoublePendulum-v5", 10_000': '"InvertedDoublePendulum-v5", 310',
            '"ebm/Reacher-v0", episodes=4': 'gym.make("ebm/Reacher-v0", max_episode_steps=5), episodes=1',
            "steps=400, environments=4": "steps=104, environments=4",
        },
    )
    assert scope["learning"].progress.step == 140
    assert scope["run"].progress.step == 310
    assert scope["explore"].progress.step == 104
    assert len(scope["explore"].experience.data) > 80


@runs("guides/baselines.md")
def test_baselines_plan_predict_and_are_stored():
    scope = run_page(
        "guides/baselines.md",
        {
            "steps=20_000": "steps=4_000",
            'kind="feed-forward"': 'kind="feed-forward", updates=300',
            'gym.make("ebm/Particle-v0")': 'gym.make("ebm/Particle-v0", max_episode_steps=5)',
        },
    )
    assert scope["futures"].states.shape == (8, 1, 10, 2)
    assert type(scope["again"]) is type(scope["network"])


@runs("guides/images.md")
def test_images_are_generated_filled_and_composed():
    scope = run_page(
        "guides/images.md",
        {
            "updates=300": "updates=10",
            "width=16": "width=8",
            '("test", 8)': '("test", 2)',
            '"train", 200': '"train", 100',
        },
    )
    assert scope["fills"].shape == (2, 4, 1, 8, 8)
    upper = scope["test"][:, None, :, :4].expand(2, 4, 1, 4, 8)
    assert torch.equal(scope["fills"][..., :4, :], upper), "observed pixels do not change by a bit"
    assert scope["drawn"].shape == (2, 1, 8, 8)
    assert scope["clean"].shape == scope["mended"].shape == scope["test"].shape


@runs("guides/continual.md")
def test_continual_learning_has_an_accuracy_for_every_task_after_every_task():
    scope = run_page("guides/continual.md", {"updates=100": "updates=15", "updates=50": "updates=15"})
    assert scope["outcome"].accuracies.shape == (2, 2)
    assert 0 <= scope["outcome"].average <= 1


@runs("guides/save-load-resume.md")
def test_models_are_saved_loaded_and_resumed():
    scope = run_page(
        "guides/save-load-resume.md",
        {"updates=200, checkpoint_every=100": f"{SMALL}, checkpoint_every=2", "steps=5_000": "steps=1_000"},
    )
    resumed, saved, of_run = (
        dict(model.energy.named_parameters())
        for model in (scope["model"], ebm.load("models/pendulum"), ebm.load("runs/pendulum"))
    )
    for name, value in resumed.items():
        assert torch.equal(value, saved[name])
        assert torch.equal(value, of_run[name])


@runs("guides/gpu-and-speed.md")
def test_engine_and_device_are_settings():
    scope = run_page(
        "guides/gpu-and-speed.md",
        {"updates=200": SMALL, "steps=10_000": "steps=1_000", '"compile"': '"eager"'},
    )
    action, _ = scope["agent"].predict(scope["env"].reset(seed=0)[0])
    assert scope["env"].action_space.contains(action)


@runs("guides/diverging-runs.md")
def test_the_guard_is_an_argument_of_fit():
    scope = run_page("guides/diverging-runs.md", {"updates=200": SMALL})
    assert scope["model"].training.rollbacks == 0


@runs("concepts/energies-and-samplers.md")
def test_samplers_follow_the_energy_and_leave_what_is_fixed():
    scope = run_page("concepts/energies-and-samplers.md", {})
    x = scope["chain"].x
    assert (x[:, 0] == 0).all()
    assert x[:, 1].std() == pytest.approx(1, abs=0.1)
    spring, zeros = scope["energy"], torch.zeros(4, 10, 2)
    for found, expected in zip(spring.curvature(zeros), scope["same"], strict=True):
        torch.testing.assert_close(found, expected)
    for found, expected in zip(
        spring.value_and_gradient(zeros), ebm.Energy.value_and_gradient(spring, zeros), strict=True
    ):
        torch.testing.assert_close(found, expected)
    assert ebm.samplers.GaussNewton(4)(spring, zeros, fixed=scope["start"]).energy.max() < 1e-3


@runs("reference/environments.md")
def test_the_switch_wraps_an_environment():
    env = run_page("reference/environments.md", {})["env"]
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
