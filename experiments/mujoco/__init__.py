"""Control of Gymnasium's MuJoCo and classic environments, and goals and mazes of Gymnasium-Robotics, from nothing."""
