"""The bridge to TRL computes the gradient that the formula says, on a tiny random model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

from tests.contract.tiny_model import VOCABULARY, save_tiny_model
from trainer.config import Optimisation
from trainer.samples import Sample, merge_identical
from trainer.shared_prompts import packed, shareable
from trainer.trl_bridge import Learner


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def learner(base: Path, output: Path, **settings: object) -> Learner:
    """A learner whose update leaves the weights as good as untouched, so that gradients can be compared."""
    still = {"rank": 4, "alpha": 8, "rows_per_batch": 4, "max_grad_norm": 1e9, "learning_rate": 1e-12}
    optimisation = Optimisation.model_validate(still | settings)
    made = Learner(str(base), optimisation, output=output)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in made.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return made


def samples(made: Learner, count: int = 9, *, noise: float = 0.0) -> list[Sample]:
    """Random calls, with the model's own log-probs plus noise as the sampler's."""
    rng = random.Random(11)
    found: list[Sample] = []
    for i in range(count):
        prompt = tuple(rng.randrange(2, VOCABULARY) for _ in range(rng.randrange(2, 12)))
        completion = tuple(rng.randrange(2, VOCABULARY) for _ in range(rng.randrange(1, 8)))
        with torch.no_grad():
            exact = logprobs(made, prompt, completion)
        sampled = tuple(float(value) + rng.gauss(0, noise) for value in exact)
        found.append(Sample(prompt, completion, sampled, rng.uniform(-1, 1), "base", f"t{i}", 0))
    return found


def logprobs(made: Learner, prompt: Sequence[int], completion: Sequence[int]) -> torch.Tensor:
    """Log-probabilities (C,) of a completion, from one unpadded forward pass."""
    ids = torch.tensor([[*prompt, *completion]])
    logits = made.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(completion)[:, None])[:, 0]


def gradients_by_hand(made: Learner, calls: Sequence[Sample], *, cap: float | None) -> list[torch.Tensor]:
    """Token-mean policy gradient with truncated importance sampling, one call at a time."""
    made.model.zero_grad()
    total = sum(len(s.completion_ids) for s in calls)
    for sample in calls:
        found = logprobs(made, sample.prompt_ids, sample.completion_ids)
        weight = torch.ones_like(found)
        if cap is not None:
            weight = (found.detach() - torch.tensor(sample.logprobs)).exp().clamp(max=cap)
        (-(sample.advantage * weight * found).sum() / total).backward()
    grads = [p.grad.clone() for p in made.parameters if p.grad is not None]
    made.model.zero_grad()
    return grads


def gradients_of_bridge(made: Learner, calls: Sequence[Sample]) -> tuple[list[torch.Tensor], dict[str, float]]:
    """What the optimiser is given in an update."""
    kept: list[torch.Tensor] = []

    def keep(*_: object) -> None:
        kept.extend(p.grad.clone() for p in made.parameters if p.grad is not None)

    handle = made.optimizer.register_step_pre_hook(keep)
    metrics = made.update(calls)
    handle.remove()
    return kept, metrics


def largest_difference(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    assert len(one) == len(other) > 0
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


def test_the_gradient_is_the_token_mean_policy_gradient(base: Path, tmp_path: Path) -> None:
    made = learner(base, tmp_path, importance_cap=None)
    calls = samples(made)
    by_hand = gradients_by_hand(made, calls, cap=None)
    found, _ = gradients_of_bridge(made, calls)
    assert max(float(g.abs().max()) for g in by_hand) > 1e-3
    assert largest_difference(found, by_hand) < 1e-5


def test_truncated_importance_sampling_weighs_each_token_by_its_capped_ratio(base: Path, tmp_path: Path) -> None:
    made = learner(base, tmp_path, importance_cap=2.0)
    calls = samples(made, noise=1.0)
    by_hand = gradients_by_hand(made, calls, cap=2.0)
    found, metrics = gradients_of_bridge(made, calls)
    assert largest_difference(found, by_hand) < 1e-5
    assert largest_difference(found, gradients_by_hand(made, calls, cap=None)) > 1e-3
    assert 0 < metrics["importance_truncated"] < 1
    assert metrics["importance_max"] > 2.0


@pytest.mark.parametrize("rows_per_batch", [1, 4, 32])
def test_calls_of_one_prompt_are_computed_in_one_row_as_if_each_were_alone(base: Path, tmp_path: Path, rows_per_batch: int) -> None:
    made = learner(base, tmp_path, importance_cap=2.0, rows_per_batch=rows_per_batch)
    rng, calls = random.Random(3), samples(made, 4)
    for first in calls[:3]:
        for number in range(rng.randrange(1, 5)):
            completion = tuple(rng.randrange(2, VOCABULARY) for _ in range(rng.randrange(1, 8)))
            with torch.no_grad():
                exact = logprobs(made, first.prompt_ids, completion)
            sampled = tuple(float(value) + rng.gauss(0, 0.5) for value in exact)
            calls.append(
                replace(first, completion_ids=completion, logprobs=sampled, trajectory_id=f"s{number}", advantage=rng.uniform(-1, 1))
            )
    found, metrics = gradients_of_bridge(made, calls)
    assert largest_difference(found, gradients_by_hand(made, calls, cap=2.0)) < 1e-5
    assert metrics["rows"] == len(calls) > 8


def test_a_row_holds_the_prompt_once_and_each_call_sees_that_and_itself() -> None:
    ids = torch.tensor([[0, 5, 6, 7, 8, 0], [0, 5, 6, 9, 0, 0], [4, 5, 6, 7, 8, 3]])
    mask = torch.tensor([[0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    found = packed(ids, mask, 3, dtype=torch.float32)
    assert found is not None
    assert found.input_ids.tolist() == [[5, 6, 7, 8, 6, 9], [4, 5, 6, 7, 8, 3]]
    assert found.position_ids.tolist() == [[0, 1, 2, 3, 1, 2], [0, 1, 2, 3, 4, 5]]
    assert (found.attention_mask[0, 0] == 0).tolist()[5] == [True, False, False, False, True, True]
    predictions = torch.arange(10.0).reshape(2, 5)
    assert found.of_calls(predictions).tolist() == [[1.0, 2.0, 0.0], [4.0, 0.0, 0.0], [7.0, 8.0, 9.0]]
    assert packed(ids[1:], mask[1:], 3, dtype=torch.float32) is None


@pytest.mark.parametrize(
    ("config", "shared"),
    [
        ({"_attn_implementation": "sdpa"}, True),
        ({"_attn_implementation": "sdpa", "layer_types": ["full_attention"] * 2, "sliding_window": None}, True),
        ({"_attn_implementation": "sdpa", "sliding_window": 4096, "use_sliding_window": False}, True),
        ({"_attn_implementation": "sdpa", "sliding_window": 4096}, False),
        ({"_attn_implementation": "sdpa", "layer_types": ["full_attention", "sliding_attention"]}, False),
        ({"_attn_implementation": "sdpa", "layer_types": ["linear_attention", "full_attention"]}, False),
        ({"_attn_implementation": "flash_attention_2"}, False),
    ],
)
def test_prompts_are_shared_only_where_a_mask_parts_the_calls(config: dict[str, Any], shared: bool) -> None:
    assert shareable(SimpleNamespace(**config)) is shared


def test_rows_that_fill_up_a_batch_change_nothing(base: Path, tmp_path: Path) -> None:
    calls = samples(learner(base, tmp_path))
    exact, _ = gradients_of_bridge(learner(base, tmp_path, rows_per_batch=1), calls)
    filled, _ = gradients_of_bridge(learner(base, tmp_path, rows_per_batch=32), calls)
    assert largest_difference(exact, filled) < 1e-6


def test_identical_calls_computed_once_give_the_same_gradient(base: Path, tmp_path: Path) -> None:
    made = learner(base, tmp_path)
    calls = samples(made, 6)
    repeated = [*calls, *(replace(s, advantage=0.3, trajectory_id="again") for s in calls[:3]), replace(calls[0], advantage=-0.7)]
    merged = merge_identical(repeated)
    assert len(merged) == 6
    one, _ = gradients_of_bridge(made, repeated)
    other, metrics = gradients_of_bridge(made, merged)
    assert largest_difference(one, other) < 1e-6
    assert metrics["rows"] == 6
    assert metrics["samples"] == 10


def test_one_learner_makes_many_updates_on_one_optimizer_state(base: Path, tmp_path: Path) -> None:
    made = learner(base, tmp_path, learning_rate=1e-2, warmup_updates=2)
    calls = [replace(s, advantage=1.0) for s in samples(made)]
    first = sum(float(logprobs(made, s.prompt_ids, s.completion_ids).detach().sum()) for s in calls)
    rates = [made.update(calls[: 3 + 2 * k])["learning_rate"] for k in range(4)]
    last = sum(float(logprobs(made, s.prompt_ids, s.completion_ids).detach().sum()) for s in calls)
    assert last > first + 1
    assert rates == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2, 1e-2])
    steps = {int(state["step"]) for state in made.optimizer.state.values()}
    assert steps == {4}


def test_cispo_weighs_a_token_that_the_policy_itself_sampled_with_one(base: Path, tmp_path: Path) -> None:
    """CISPO's weight is min(ratio, 1 + clip_high), and the ratio is 1 where one step is made of each batch."""
    made = learner(base, tmp_path, importance_cap=None, loss="cispo")
    calls = samples(made)
    by_hand = gradients_by_hand(made, calls, cap=None)
    found, _ = gradients_of_bridge(made, calls)
    assert largest_difference(found, by_hand) < 1e-5


def test_an_update_that_imitates_is_weighed_by_no_ratio(base: Path, tmp_path: Path) -> None:
    made = learner(base, tmp_path, importance_cap=2.0)
    calls = [replace(one, advantage=1.0) for one in samples(made, noise=1.0)]
    by_hand = gradients_by_hand(made, calls, cap=None)
    kept: list[torch.Tensor] = []
    handle = made.optimizer.register_step_pre_hook(lambda *_: kept.extend(p.grad.clone() for p in made.parameters if p.grad is not None))
    metrics = made.update(calls, corrected=False)
    handle.remove()
    assert largest_difference(kept, by_hand) < 1e-5
    assert metrics["importance_truncated"] == 0.0


def calls_by_hand(made: Learner, calls: Sequence[Sample], loss: str, ratios: str, *, cap: float, tokens: int) -> list[torch.Tensor]:
    """Losses that are means over calls, and vespo; the policy's own ratio is 1, since one step is made of each batch."""
    made.model.zero_grad()
    for sample in calls:
        found = logprobs(made, sample.prompt_ids, sample.completion_ids)
        weight = (found.detach() - torch.tensor(sample.logprobs)).exp().clamp(max=cap)
        # the gradient of a sequence's ratio is that of the mean of its log-probs
        gained = weight * found if ratios == "token" else weight * found.mean()
        if loss == "vespo":
            w, (k, slope) = weight.log().sum().exp(), (2.0, 3.0) if sample.advantage >= 0 else (3.0, 2.0)
            gained = (slope + k * w.log() - slope * w).exp() * found
        by = {"luspo": len(calls), "dr_grpo": len(calls) * tokens, "vespo": sum(len(one.completion_ids) for one in calls)}
        (-sample.advantage * gained.sum() / by.get(loss, len(calls) * len(found))).backward()
    grads = [p.grad.clone() for p in made.parameters if p.grad is not None]
    made.model.zero_grad()
    return grads


@pytest.mark.parametrize(
    ("loss", "ratios"),
    [("grpo", "token"), ("grpo", "sequence"), ("dr_grpo", "token"), ("sapo", "token"), ("luspo", "sequence"), ("vespo", "token")],
)
def test_every_loss_is_computed_as_its_paper_says(base: Path, tmp_path: Path, loss: str, ratios: str) -> None:
    made = learner(base, tmp_path, loss=loss, ratios=ratios, importance_cap=2.0, completion_tokens=20)
    calls = samples(made, noise=0.3)
    repeated = [*calls, *(replace(one, advantage=0.3, trajectory_id="again") for one in calls[:3])]
    by_hand = calls_by_hand(made, repeated, loss, ratios, cap=2.0, tokens=20)
    found, _ = gradients_of_bridge(made, merge_identical(repeated) if made.optimisation.mergeable else repeated)
    assert max(float(g.abs().max()) for g in by_hand) > 1e-3
    assert largest_difference(found, by_hand) < 1e-5


def test_the_divergence_from_the_reference_is_k3_over_all_tokens_at_its_weight(base: Path, tmp_path: Path) -> None:
    """k3 = exp(d) - d - 1 with d = log p_ref - log p (Schulman), the reference being the model without its adapter."""
    beta = 0.5
    made = learner(base, tmp_path, importance_cap=None, beta=beta)
    calls = samples(made)
    by_hand = gradients_by_hand(made, calls, cap=None)
    total = sum(len(sample.completion_ids) for sample in calls)
    for sample in calls:
        with torch.no_grad(), made.model.disable_adapter():
            reference = logprobs(made, sample.prompt_ids, sample.completion_ids)
        apart = reference - logprobs(made, sample.prompt_ids, sample.completion_ids)
        (beta * (apart.exp() - apart - 1).sum() / total).backward()
    divergence = [p.grad.clone() for p in made.parameters if p.grad is not None]
    made.model.zero_grad()
    assert not made.optimisation.mergeable
    found, _ = gradients_of_bridge(made, calls)
    assert largest_difference(found, by_hand) > 1e-4
    assert largest_difference(found, [one + other for one, other in zip(by_hand, divergence, strict=True)]) < 1e-5


def test_the_reference_divergence_is_reported_when_it_is_asked_for(base: Path, tmp_path: Path) -> None:
    made = learner(base, tmp_path, beta=0.05)
    assert made.update(samples(made))["kl_reference"] > 0


def test_a_saved_adapter_is_where_a_new_learner_begins(base: Path, tmp_path: Path) -> None:
    made = learner(base, tmp_path, learning_rate=1e-2)
    calls = samples(made)
    made.update(calls)
    made.save(tmp_path / "adapter")
    again = Learner(str(base), made.optimisation, output=tmp_path, parent=tmp_path / "adapter")
    for sample in calls:
        with torch.no_grad():
            one, other = (logprobs(m, sample.prompt_ids, sample.completion_ids) for m in (made, again))
        assert torch.allclose(one, other, atol=1e-6)


def test_an_update_without_samples_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        learner(base, tmp_path).update([])


def test_a_checkpoint_makes_the_updates_that_follow_the_same_byte_for_byte(base: Path, tmp_path: Path) -> None:
    settings = {"learning_rate": 1e-3, "max_grad_norm": 1.0, "decay": True, "threads": 1}
    made = learner(base, tmp_path, **settings)
    calls = samples(made)
    made.update(calls)
    made.checkpoint(tmp_path / "c.pt")
    made.update(calls[:5])
    again = learner(base, tmp_path, **settings)
    again.restore(tmp_path / "c.pt")
    again.update(calls[:5])
    assert again.updates == 2
    assert all(torch.equal(one, other) for one, other in zip(made.parameters, again.parameters, strict=True))
    other = learner(base, tmp_path, targets=["q_proj"])
    with pytest.raises(ValueError, match="another model"):
        other.restore(tmp_path / "c.pt")


def test_how_much_an_adapter_changes_a_matrix_is_the_ratio_of_their_norms(base: Path, tmp_path: Path) -> None:
    made = learner(base, tmp_path)
    layers: list[Any] = [module for module in made.model.modules() if isinstance(module, LoraLayer)]
    ratios = [float((layer.get_delta_weight("default").norm() / layer.get_base_layer().weight.norm()).detach()) for layer in layers]
    assert made.largest_change() == pytest.approx(max(ratios), rel=1e-4)


def test_the_divergence_is_from_where_the_run_began_and_leaves_the_weights_as_they_are(base: Path, tmp_path: Path) -> None:
    made = Learner(str(base), Optimisation.model_validate({"rank": 4, "alpha": 8}), output=tmp_path)
    calls = samples(made)
    assert made.divergence(calls) == pytest.approx(0, abs=1e-7)
    began = torch.cat([logprobs(made, call.prompt_ids, call.completion_ids).detach() for call in calls])
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in made.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    learned = torch.cat([logprobs(made, call.prompt_ids, call.completion_ids).detach() for call in calls])
    ratio = began - learned
    assert made.divergence(calls) == pytest.approx(float((ratio.exp() - 1 - ratio).mean()), rel=1e-3)
    after = torch.cat([logprobs(made, call.prompt_ids, call.completion_ids).detach() for call in calls])
    assert torch.equal(after, learned)


def test_a_learner_that_shares_its_device_is_there_for_updates_alone_and_learns_the_same(base: Path, tmp_path: Path) -> None:
    told: list[str] = []

    def trained(shares: bool) -> dict[str, torch.Tensor]:
        made = Learner(str(base), Optimisation(rank=4, alpha=8, threads=1, engine="rests"), output=tmp_path)
        made._shares, move = shares, made._move  # there is but one device here: what would be moved, and when, is all that can be seen
        calls = samples(made)

        def moved(device: torch.device) -> None:
            told.append(f"to {device}")
            move(device)
            assert all(parameter.device == device for parameter in made.model.parameters())

        made._move = moved
        for _ in range(2):
            made.update(calls)
            told.append("update")
        made.divergence(calls)
        return {name: parameter.detach().clone() for name, parameter in made.model.named_parameters()}

    alone = trained(shares=False)
    assert told == ["update", "update"]
    told.clear()
    shared = trained(shares=True)
    assert told == ["to cpu", "to cpu", "update", "to cpu", "to cpu", "update", "to cpu", "to cpu"]
    assert all(torch.equal(shared[name], value) for name, value in alone.items())
