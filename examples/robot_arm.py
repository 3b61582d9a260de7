"""A robot arm follows a curve: jacobians and hessians from engine.func, compiled.

    python examples/robot_arm.py            prints how far the hand is from its curve, and draws (needs matplotlib)
    python examples/robot_arm.py --quick    a few points of the curve, no picture

The arm has three links in a plane. To move its hand to a point, Gauss-Newton turns the joints by J^T (J J^T + d I)^-1 e, where J is
the jacobian of the hand's place by the angles, e what is missing, and d a damping. One call makes one such step, compiled: the
jacobian included. The hessian of the squared distance then says whether a pose is a strict minimum: three angles for two
coordinates leave one direction free, so one eigenvalue must be 0.
"""
import argparse
import math
import time

from pictures import pyplot, save

import engine as torch
from engine import func

LINKS = torch.tensor([1.0, 0.8, 0.5], dtype=torch.float64)
DAMPING = 1e-4


def joints(angles):
    """(2, 3): where the links end. Each angle counts from the link before."""
    heading = angles.cumsum(0)
    return torch.stack([(LINKS * heading.cos()).cumsum(0), (LINKS * heading.sin()).cumsum(0)])


def hand(angles):
    """(2,): where the arm ends."""
    return joints(angles)[:, -1]


def step(angles, target):
    """Angles after one step towards the target, and the distance before it."""
    missing = target - hand(angles)
    jacobian = func.jacrev(hand)(angles)
    a, b, c = jacobian[0].dot(jacobian[0]) + DAMPING, jacobian[0].dot(jacobian[1]), jacobian[1].dot(jacobian[1]) + DAMPING
    along = torch.stack([c * missing[0] - b * missing[1], a * missing[1] - b * missing[0]]) / (a * c - b * b)   # 2 x 2, solved
    return angles + jacobian.T @ along, missing.norm()


def curve(count):
    """Points of a figure of eight, above the arm's shoulder."""
    t = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    return torch.stack([0.9 * t.sin() + 0.3, 0.5 * (2 * t).sin() + 1.2], dim=1)


def follow(move, targets, angles):
    """(poses, distances) at the targets: steps until the hand is close, at most 20 each."""
    poses, distances = [], []
    for target in targets:
        for _ in range(20):
            angles, distance = move(angles, target)
            if distance < 1e-10:            # a branch on data: each step looks
                break
        poses.append(angles)
        distances.append((hand(angles) - target).norm().item())
    return poses, distances


def main():
    parser = argparse.ArgumentParser(description="A robot arm that follows a curve.")
    parser.add_argument("--quick", action="store_true", help="10 points instead of 120")
    count = 10 if parser.parse_args().quick else 120
    targets = curve(count)
    start = torch.tensor([0.5, 0.8, 0.4], dtype=torch.float64)

    compiled = torch.compile(step)
    for name, move in (("eager", step), ("compiled", compiled)):
        move(start, targets[0])                                     # kernels and traces are made here
        begin = time.perf_counter()
        poses, distances = follow(move, targets, start)
        print(f"{name:<9} {count} points in {1e3 * (time.perf_counter() - begin):7.1f} ms, largest distance {max(distances):.1e}")

    exact = func.jacrev(hand)(poses[0])
    steps = 1e-6 * torch.eye(3, dtype=torch.float64)
    numeric = torch.stack([(hand(poses[0] + d) - hand(poses[0] - d)) / 2e-6 for d in steps], dim=1)
    print("Jacobian of the hand at the first pose:", exact, sep="\n")
    print(f"Largest difference from central differences: {(exact - numeric).abs().max().item():.1e}")
    hessian = torch.compile(func.hessian(lambda q: (hand(q) - targets[0]).square().sum() / 2))
    values = torch.linalg.eigvalsh(hessian(poses[0]))
    print("Eigenvalues of the hessian of half the squared distance:", [round(v, 6) for v in values.tolist()])

    if plt := pyplot():
        figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
        shown = poses[:: max(1, count // 24)]
        for k, pose in enumerate(shown):
            xs, ys = torch.cat([torch.zeros(2, 1, dtype=torch.float64), joints(pose)], dim=1).tolist()
            axes.plot(xs, ys, "o-", color=plt.cm.viridis(k / len(shown)), linewidth=1, markersize=3, alpha=0.7)
        closed = torch.cat([targets, targets[:1]])
        axes.plot(closed[:, 0].numpy(), closed[:, 1].numpy(), color="orangered", linewidth=2, label="the curve")
        axes.plot(0, 0, "ks", markersize=9, label="shoulder")
        axes.set(title="A robot arm follows a curve", aspect="equal")
        axes.legend()
        save(figure, "robot_arm.png")


if __name__ == "__main__":
    main()
