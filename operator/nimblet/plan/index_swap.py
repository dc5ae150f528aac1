# SPDX-License-Identifier: Apache-2.0
"""Which generation should serve: the pinned one, or the newest good one. Pure; it gives orders, no more."""

from dataclasses import dataclass

from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.conditions import Reason
from nimblet.plan.index_build import BuildPlan
from nimblet.plan.indexfacts import GenerationFacts, IndexFacts
from nimblet.plan.stage import Problem, Progress, problem


@dataclass(frozen=True, kw_only=True)
class SwapPlan:
    """`serve`: the generation that the retriever is told to serve; None: it does, or nothing can be done."""

    serve: str | None = None
    state: Problem | Progress | None = None


def plan_swap(
    index: RetrievalIndex, facts: IndexFacts, build: BuildPlan, *, asked: frozenset[str] = frozenset()
) -> SwapPlan:
    """Return the swap that is wanted. A build swaps by itself; this one rolls back, and forth again.

    `asked`: the servers that the retriever is to ask. One that lets go of others is given no order: it would be
    for a generation there, and what answers next would serve nothing.
    """
    told, found = facts.retriever, _wanted(index, facts, build)
    if told is None or found.serve is None or not asked or asked.issuperset(item.url for item in told.servers):
        return found
    message = f"The retriever lets go of servers before it is told to serve {found.serve}."
    return SwapPlan(state=Progress(reason=Reason.SWAPPING, message=message))


def _wanted(index: RetrievalIndex, facts: IndexFacts, build: BuildPlan) -> SwapPlan:
    told, pinned = facts.retriever, index.spec.generation
    if told is None or index.spec.suspend or not told.store.ok:
        return SwapPlan()
    sealed = {item.name: item for item in told.generations if item.sealed}
    if pinned is not None:
        if pinned in sealed:
            return _to(sealed[pinned], serving=told.serving)
        kept = ", ".join(sorted(sealed)) or "none"
        found = f"spec.generation is {pinned}, but that generation is not kept; there is: {kept}."
        if index.spec.store.type == "Dedicated":
            found = f"{found} Generations of servers that others took the place of went with them."
        return SwapPlan(state=problem(Reason.GENERATION_UNKNOWN, found))
    if build.done is None or build.running is not None:
        return SwapPlan()
    newest = sealed.get(build.done.generation)
    if newest is None:
        # what the retriever told is older than the build's end, or its store was lost: nothing to claim either way
        message = f"Generation {build.done.generation} was built; the retriever has not told yet that it has it."
        return SwapPlan(state=Progress(reason=Reason.SWAPPING, message=message))
    return _to(newest, serving=told.serving) if _may_serve(index, newest) else SwapPlan()


def _may_serve(index: RetrievalIndex, generation: GenerationFacts) -> bool:
    gate = index.spec.quality_gate
    return generation.chunks > 0 and (gate is None or (generation.gate is not None and generation.gate.passed))


def _to(generation: GenerationFacts, *, serving: str | None) -> SwapPlan:
    if generation.name == serving:
        return SwapPlan()
    message = f"The retriever swaps from {serving or 'nothing'} to {generation.name}."
    return SwapPlan(serve=generation.name, state=Progress(reason=Reason.SWAPPING, message=message))
