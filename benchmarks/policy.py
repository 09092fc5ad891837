"""`make bench-policy`: the policy head in worlds whose truth is known, and the coverage of its estimates' intervals.

Each world is drawn from several seeds. On each, a policy and a supervised ranker of the same capacity learn from the
same log, and their true values are computed, not estimated. Then one policy is judged on many fresh logs of one world,
which shows how often the 95 % interval of each estimator holds the true value.

Shapes: N decisions · A actions · S seeds.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measured_on import measured_on
from recommender.datasets.synthetic.policy import BanditWorld, LoggedDecisions
from recommender.engine.context import FitContext
from recommender.policies.head import PolicyHead, top_of
from recommender.policies.off_policy import doubly_robust, ips, snips
from recommender.policies.policy_value import PolicyValue
from recommender.policies.reward_model import RewardModel
from recommender.storage.manifest import write_text

SEEDS = (11, 12, 13, 14, 15, 16)
"""Others than the tests of the policy head use. Six are few, but enough for a t interval. Chosen by hand."""
LOGGED, JUDGED, CONTEXTS = 20_000, 2_000, 20_000
"""Decisions to learn from and to judge by, and contexts over which true values are averaged. Chosen by hand."""
COVERAGE_CONTEXTS = 400_000
"""More contexts for the truth of the coverage: its error must be small beside an interval's width."""
REPLICATIONS = 300
"""Fresh logs: a coverage of 95 % is then known to 2.5 points (two standard errors of a share)."""
K = 3
"""Length of the lists. Chosen by hand: few of the world's ten campaigns, so that the order matters."""
WORLDS = {"curved": 1.5, "linear": 0.0}
"""How far log-odds bend beyond what the models can express. In `linear` the supervised model is right.
1.5 is `BanditWorld`'s default."""
POLICIES = ("logging", "supervised", "supervised x value", "policy", "policy, best only", "possible")
LISTS = ("supervised x value", "policy", "policy, corrected", "possible")


def learned(world: BanditWorld, decisions: LoggedDecisions, seed: int, **hyperparameters: Any) -> PolicyHead:
    """The policy head, trained on one log with these hyperparameters."""
    return PolicyHead.fit(
        decisions.contexts_NX,
        decisions.actions_N,
        decisions.propensities_N,
        decisions.rewards_N,
        num_actions=world.num_actions,
        config=PolicyHead.Config.parse(hyperparameters, owner=PolicyHead.name),
        context=FitContext(seed=seed),
    )


def supervised(world: BanditWorld, decisions: LoggedDecisions, seed: int) -> RewardModel:
    """A supervised model of the reward, of the same capacity, trained on the same log."""
    return RewardModel.fit(
        decisions.contexts_NX,
        decisions.actions_N,
        decisions.rewards_N > 0,
        num_actions=world.num_actions,
        config=RewardModel.Config(),
        context=FitContext(seed=seed),
    )


def best_only(scores_NA: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Probabilities [N, A] of the policy that always shows the action with the highest score."""
    return np.eye(scores_NA.shape[1])[top_of(scores_NA, 1)[:, 0]]


def true_values(world: BanditWorld, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """True values of `POLICIES`, and of `LISTS` of K actions, all learned from the same log."""
    # Seeds 1,000 and more above: other contexts than those that were learned from, here and below.
    decisions, (contexts_NX, _) = world.log(LOGGED, seed=seed), world.contexts(CONTEXTS, seed=seed + 1_000)
    policy, corrected = learned(world, decisions, seed), learned(world, decisions, seed, top_k=K)
    taken_NA = supervised(world, decisions, seed).take_up(contexts_NX)
    pi_NA, truth_NA = policy.probabilities(contexts_NX), world.expected_rewards(contexts_NX)
    shown = {
        "logging": world.logging(contexts_NX),
        "supervised": best_only(taken_NA),
        "supervised x value": best_only(taken_NA * world.values_A),
        "policy": pi_NA,
        "policy, best only": best_only(pi_NA),
        "possible": best_only(truth_NA),
    }
    lists = {
        "supervised x value": top_of(taken_NA * world.values_A, K),
        "policy": top_of(pi_NA, K),
        "policy, corrected": corrected.top(contexts_NX, K),
        "possible": top_of(truth_NA, K),
    }
    return (
        {name: world.value(probabilities_NA, contexts_NX) for name, probabilities_NA in shown.items()},
        {name: world.value_of_lists(lists_NK, contexts_NX) for name, lists_NK in lists.items()},
    )


def estimates(
    decisions: LoggedDecisions, probabilities_NA: NDArray[np.float64], predicted_NA: NDArray[np.float64]
) -> dict[str, PolicyValue]:
    """A policy's value by three estimators on one log, clustered by user.

    Raises:
        ValueError: The log has too little overlap with the policy.
    """
    target_N = probabilities_NA[np.arange(len(decisions.actions_N)), decisions.actions_N]
    rewards_N, propensities_N, users_N = decisions.rewards_N, decisions.propensities_N, decisions.users_N
    found = {
        "ips": ips(rewards_N, target_N, propensities_N, users_N=users_N),
        "snips": snips(rewards_N, target_N, propensities_N, users_N=users_N),
        "doubly robust": doubly_robust(
            rewards_N, decisions.actions_N, probabilities_NA, propensities_N, predicted_NA, users_N=users_N
        ),
    }
    for one in found.values():
        if not isinstance(one, PolicyValue):
            raise ValueError(str(one))
    return {name: one for name, one in found.items() if isinstance(one, PolicyValue)}


def coverage(world: BanditWorld, *, replications: int, seed: int = 1) -> dict[str, dict[str, float]]:
    """How often each estimator's 95 % interval holds a learned policy's true value, over logs of JUDGED decisions."""
    decisions = world.log(LOGGED, seed=seed)
    policy, model = learned(world, decisions, seed), supervised(world, decisions, seed)
    contexts_NX, _ = world.contexts(COVERAGE_CONTEXTS, seed=seed + 1_000)
    truth = world.value(policy.probabilities(contexts_NX), contexts_NX)
    found: dict[str, list[PolicyValue]] = {}
    for replication in range(replications):
        fresh = world.log(JUDGED, seed=10_000 + replication)
        predicted_NA = model.take_up(fresh.contexts_NX) * world.values_A
        for name, one in estimates(fresh, policy.probabilities(fresh.contexts_NX), predicted_NA).items():
            found.setdefault(name, []).append(one)
    return {
        name: {
            "truth": truth,
            "first_value": many[0].value,
            "first_low": many[0].low,
            "first_high": many[0].high,
            "mean_value": float(np.mean([one.value for one in many])),
            "mean_width": float(np.mean([one.high - one.low for one in many])),
            "effective_sample_size": float(np.mean([one.effective_sample_size for one in many])),
            "coverage": float(np.mean([one.low <= truth <= one.high for one in many])),
            "replications": replications,
        }
        for name, many in found.items()
    }


def difference(ours_S: Sequence[float], theirs_S: Sequence[float]) -> dict[str, float]:
    """Mean of the paired differences over seeds, with its 95 % t interval."""
    from scipy.stats import t

    gain_S = np.array(ours_S) - np.array(theirs_S)
    half = float(t.ppf(0.975, len(gain_S) - 1) * gain_S.std(ddof=1) / math.sqrt(len(gain_S)))
    return {"value": float(gain_S.mean()), "low": float(gain_S.mean()) - half, "high": float(gain_S.mean()) + half}


def bench(*, seeds: Sequence[int], replications: int, say: Callable[[str], None]) -> dict[str, Any]:
    """All figures. `say` is called with a line for each step."""
    content: dict[str, Any] = {**measured_on(), "logged": LOGGED, "seeds": list(seeds), "worlds": {}}
    for name, curved in WORLDS.items():
        alone: dict[str, list[float]] = {policy: [] for policy in POLICIES}
        listed: dict[str, list[float]] = {policy: [] for policy in LISTS}
        for seed in seeds:
            say(f"{name} world, seed {seed}")
            for values, into in zip(
                true_values(BanditWorld(seed=seed, curved=curved), seed), (alone, listed), strict=True
            ):
                for policy, value in values.items():
                    into[policy].append(value)
        gains = {
            f"{ours} - {theirs}": difference(alone[ours], alone[theirs])
            for ours in ("policy", "policy, best only")
            for theirs in ("logging", "supervised", "supervised x value")
        }
        for theirs in ("policy", "supervised x value"):
            gains[f"policy, corrected - {theirs} (lists)"] = difference(listed["policy, corrected"], listed[theirs])
        content["worlds"][name] = {"values": alone, "lists": listed, "gains": gains}
    say(f"coverage over {replications} logs of {JUDGED:,} decisions")
    content["coverage"] = coverage(BanditWorld(seed=seeds[0]), replications=replications, seed=seeds[0])
    return content


def tables(content: dict[str, Any]) -> list[Any]:
    """The figures as tables to print."""
    from rich.table import Table

    made = []
    for name, world in content["worlds"].items():
        table = Table(
            "shown",
            "one action",
            f"lists of {K}",
            title=f"{name} world: true value, mean of {len(content['seeds'])} seeds",
        )
        for policy in dict.fromkeys((*POLICIES, *LISTS)):
            cells = [world[kind].get(policy) for kind in ("values", "lists")]
            table.add_row(policy, *("" if cell is None else f"{np.mean(cell):.4f}" for cell in cells))
        gains = Table("difference", "mean and 95 % interval over seeds", title=f"{name} world")
        for pair, gain in world["gains"].items():
            gains.add_row(pair, f"{gain['value']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]")
        made += [table, gains]
    table = Table(
        "estimate", "truth", "first log", "mean", "width", "ESS", "coverage", title="the policy's value, estimated"
    )
    for name, row in content["coverage"].items():
        first = f"{row['first_value']:.4f} [{row['first_low']:.4f}, {row['first_high']:.4f}]"
        cells = [f"{row[key]:.4f}" for key in ("mean_value", "mean_width")]
        table.add_row(
            name, f"{row['truth']:.4f}", first, *cells, f"{row['effective_sample_size']:.0f}", f"{row['coverage']:.1%}"
        )
    return [*made, table]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the report."""
    from recommender.report.terminal import wide

    parser = argparse.ArgumentParser(prog="make bench-policy", description=__doc__.split("\n")[0])
    parser.add_argument("--replications", type=int, default=REPLICATIONS, help="fresh logs for the coverage")
    parser.add_argument("--output", type=Path, default=Path("reports/bench/policy.json"), help="the report (JSON)")
    chosen = parser.parse_args(arguments)
    console = wide()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    content = bench(seeds=SEEDS, replications=chosen.replications, say=say)
    write_text(chosen.output, json.dumps(content, indent=1))
    for table in tables(content):
        console.print(table)
    where = f"{content['hardware']}, {content['date']}, commit {content['commit'] or 'unknown'}"
    say(f"{where}; all figures: {chosen.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
