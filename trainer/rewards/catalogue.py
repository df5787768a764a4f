"""Every reward by its name, as a function of one rollout. docs/rewards.md has the table: source, range, what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from trainer.rewards.attribution import Question, evidence_attribution
from trainer.rewards.bleu import bleu1
from trainer.rewards.case import Case
from trainer.rewards.citation import citation, citation_bonus
from trainer.rewards.compression import compression
from trainer.rewards.cost import left_over
from trainer.rewards.evidence import citation_f1, evidence_ndcg, evidence_recall
from trainer.rewards.format import box_format, operations_format
from trainer.rewards.information_gain import information_gain
from trainer.rewards.matches import METRICS, Measure, Value, main_match
from trainer.rewards.operations import valid_operation


def _format(case: Case) -> float | None:
    return box_format(case.said) if case.task.kind == "reading" else operations_format(case.trajectory.steps)


def _citation(case: Case) -> float | None:
    return citation([m.id for m in case.shown], case.answering.cited) if case.answering else None


def _citation_bonus(case: Case) -> Value | float | None:
    if case.answering is None or case.task.kind == "reading":
        return None
    match = main_match(case)
    if match.score is None:
        return match
    return citation_bonus([m.id for m in case.shown], case.answering.cited, right=match.score >= 1.0)


def _information_gain(case: Case) -> Value | None:
    steps, memories = case.readings, case.memories_read()
    if not steps:
        steps, memories = case.writing, ["\n".join(texts) for texts in case.memories_written()]
    if not steps:
        return None
    gains = information_gain(memories, case.task.gold)
    return Value(float(sum(gains)), {step.index: gain for step, gain in zip(steps, gains, strict=True)})


def _evidence_attribution(case: Case) -> Value | None:
    if not case.writing:
        return None
    match = main_match(case)
    if match.score is None:
        return match
    question = Question(match.score, tuple(m.id for m in case.shown))
    earned = evidence_attribution([s.index for s in case.writing], case.writers, [question], beta=case.scoring.beta)
    return Value(float(sum(earned.values())), earned)


def _retrieval(measure: Callable[..., float]) -> Measure:
    def measured(case: Case) -> Value | float | None:
        task = case.task
        if not task.evidence or task.kind == "reading":
            return None
        known = {write.id for write in task.memories} | {turn.id for turn in task.conversation}
        if task.as_of is None and known.isdisjoint(task.evidence):
            return Value(None, reason="the evidence names no memory and no turn of the task")
        ranked: list[AbstractSet[str]] = [{m.id} | case.origins.get(m.id, frozenset[str]()) for m in case.shown]
        return measure(ranked, task.evidence, k=case.scoring.k)

    return measured


def _evidence_cited(case: Case) -> float | None:
    if not case.task.evidence or case.answering is None or case.task.kind == "reading":
        return None
    names: list[AbstractSet[str]] = [{memory} | case.origins.get(memory, frozenset[str]()) for memory in case.answering.cited]
    return citation_f1(names, case.task.evidence)


def _length(case: Case) -> Value | float | None:
    if (step := case.answering) is None:
        return None
    if step.text and not step.usage.completion_tokens:
        return Value(None, reason="the engine counted no tokens")
    return left_over(step.usage.completion_tokens, case.scoring.answer_tokens)


def _latency(case: Case) -> Value | float:
    seconds = [step.duration_s for step in case.calls]
    if None in seconds:
        return Value(None, reason="a call has no duration")
    return left_over(sum(s for s in seconds if s is not None), case.scoring.seconds)


def _token_cost(case: Case) -> Value | float:
    if any(step.text and not step.usage.total_tokens for step in case.calls):
        return Value(None, reason="the engine counted no tokens")
    return left_over(sum(step.usage.total_tokens for step in case.calls), case.scoring.tokens)


BY_STEP = ("information_gain", "evidence_attribution")
"""The rewards that tell the steps apart (`Reward.by_step`)."""
MEASURES: Mapping[str, Measure] = {
    **METRICS,
    "bleu1": lambda case: bleu1(case.named, case.task.gold),
    "format": _format,
    "valid_operation": lambda case: valid_operation(case.trajectory.steps),
    "citation": _citation,
    "citation_bonus": _citation_bonus,
    "information_gain": _information_gain,
    "evidence_attribution": _evidence_attribution,
    "evidence_recall": _retrieval(evidence_recall),
    "evidence_ndcg": _retrieval(evidence_ndcg),
    "evidence_cited": _evidence_cited,
    "compression": lambda case: compression(case.memory(), case.told()),
    "length": _length,
    "latency": _latency,
    "token_cost": _token_cost,
}
JUDGE = "judge"
NAMES = (*MEASURES, JUDGE)
