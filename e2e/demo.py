# SPDX-License-Identifier: Apache-2.0
"""`make demo`: from nothing to an answer with its source on a real cluster, with each phase's time.

Runs what a person would type, in the open: cluster, images, mirror, helm, kubectl apply, a question. The cluster
stays up. It decides nothing that the chart, the samples or the operator should decide.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from e2e.cluster import cluster as clusters
from e2e.cluster.errors import ClusterError
from e2e.cluster.progress import Progress
from e2e.images.command import BuildError
from e2e.models import ModelError
from e2e.packages import DownloadError
from e2e.support.answers import ASSISTANT, INDEX, Answer, answers_of
from e2e.support.asking import Endpoint, ask, endpoint_of
from e2e.support.diagnostics import diagnose
from e2e.support.kube import Kube
from e2e.support.manifests import MINILM_URI, model_manifest
from e2e.support.objects import Model, Resource
from e2e.support.stack import (
    InstallError,
    chart_values,
    deploy_hubs,
    install_operator,
    load_images,
    start_cluster,
)
from e2e.support.wait import NotInTimeError, until

R = TypeVar("R", Model, Resource)
ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "samples" / "compactmodel-smollm2.yaml"
MODEL = "smollm2"
NAMESPACE = "demo"
QUESTION = "Why do sailors look at the stars? Answer in one sentence."
READY_SECONDS = 180.0
GROUNDED_SAMPLE = ROOT / "samples" / "assistant-ferry.yaml"
FERRY, EMBEDDER = "ferry", "embedder"
IN_DOCUMENTS = "What does the night call of the Tarnholt ferry cost?"
NOWHERE = "Who wrote Don Quixote?"
GROUNDED_SECONDS = 300.0
EXPECTED = (ClusterError, BuildError, ModelError, DownloadError, InstallError, NotInTimeError, OSError)


@dataclass
class Phases:
    """Names and seconds of what was done, in order."""

    done: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase under a heading."""
        print(f"\n== {name}", flush=True)
        begin = time.monotonic()
        yield
        self.done.append((name, time.monotonic() - begin))


def main(argv: Sequence[str]) -> int:
    """Run the demo; exit code 0 when the model answered."""
    arguments = parser().parse_args(argv)
    phases = Phases()
    try:
        kube = prepare(arguments.name, phases)
        model = serve(kube, arguments.namespace, phases)
        with phases.phase("ask it through its Service, with the key from its Secret"):
            with endpoint_of(kube, MODEL, arguments.namespace) as endpoint:
                answer = ask(endpoint, arguments.question)
            print(f"   Q: {arguments.question}\n   A: {answer.strip()}")
        ground(kube, arguments.namespace, phases)
        ask_grounded(kube, arguments.namespace, phases)
    except EXPECTED as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    print(sizing_text(model))
    print(timing_text(phases))
    print(next_text(kube, arguments.namespace))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser(
        prog="python -m e2e.demo",
        description="Starts a disposable cluster, installs Nimblet, serves a real small model from a mirror of "
        "the Hugging Face hub inside the cluster, asks it a question, and then an assistant that answers from "
        "documents: with its source, or not at all. The first run of a machine builds "
        "Kubernetes and llama.cpp (about 30 minutes on two cores); later ones take about a minute. The cluster "
        "stays up: `make down` removes it.",
    )
    made.add_argument("--name", default=clusters.DEFAULT_NAME, help="the cluster's name (default: %(default)s)")
    made.add_argument("--namespace", default=NAMESPACE, help="where the model runs (default: %(default)s)")
    made.add_argument("--question", default=QUESTION, help="what to ask (default: %(default)r)")
    return made


def prepare(name: str, phases: Phases) -> Kube:
    """Bring up cluster, images, mirror and operator."""
    progress = Progress(stream=sys.stdout)
    with phases.phase("a Kubernetes cluster of its own (what this machine lacks is told at once)"):
        kube, _ = start_cluster(name, progress=progress)
    with phases.phase("images: the operator, what its pods run, the mirror"):
        images = load_images(kube, progress=progress)
    with phases.phase("a mirror of the hub inside the cluster, with the real weights"):
        deploy_hubs(kube, images["mirror"], trust=None, progress=progress)
    with phases.phase("helm install nimblet charts/nimblet"):
        install_operator(kube, chart_values(images, trust=None), progress=progress)
    return kube


def serve(kube: Kube, namespace: str, phases: Phases) -> Model:
    """Apply the sample and show its conditions as they change, until it is Ready."""
    if kube.find("namespace", namespace) is None:
        kube.run("create", "namespace", namespace)
        kube.run("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    with phases.phase(f"kubectl apply -f {SAMPLE.relative_to(ROOT)}, until it is Ready"):
        kube.run("apply", f"--namespace={namespace}", f"--filename={SAMPLE}")
        shown = Shown()
        try:
            return until(
                lambda: shown.changed(kube.model(MODEL, namespace)),
                what=f"CompactModel {namespace}/{MODEL} to be Ready",
                seconds=READY_SECONDS,
            )
        except NotInTimeError:
            print(diagnose(kube, namespace), file=sys.stderr)
            raise


def ground(kube: Kube, namespace: str, phases: Phases) -> None:
    """Apply documents, an index and an assistant, and show their conditions until both are Ready."""
    with phases.phase(f"an embedding model, and kubectl apply -f {GROUNDED_SAMPLE.relative_to(ROOT)}"):
        # the sample's embedding model is larger than the mirror holds: MiniLM takes its place under its name
        options: dict[str, object] = {"contextLength": 512, "parallel": 2}
        kube.apply(model_manifest(EMBEDDER, namespace, uri=MINILM_URI, task="Embedding", runtime=options))
        kube.run("apply", f"--namespace={namespace}", f"--filename={GROUNDED_SAMPLE}")
        try:
            for kind in (INDEX, ASSISTANT):
                wait_shown(kube, kind, namespace)
        except NotInTimeError:
            print(diagnose(kube, namespace), file=sys.stderr)
            raise


def wait_shown(kube: Kube, kind: str, namespace: str) -> None:
    """Show the conditions of a resource of the sample until it is Ready."""
    shown = Shown()
    print(f"   {kind} {FERRY}", flush=True)
    until(
        lambda: shown.changed(kube.resource(kind, FERRY, namespace)),
        what=f"{kind} {namespace}/{FERRY} to be Ready",
        seconds=GROUNDED_SECONDS,
    )


def ask_grounded(kube: Kube, namespace: str, phases: Phases) -> None:
    """Ask what the documents hold, with them and without, and what they don't."""
    with answers_of(kube, FERRY, namespace) as answers, endpoint_of(kube, MODEL, namespace) as model:
        with phases.phase("ask the assistant what its documents hold"):
            show_answer(IN_DOCUMENTS, answers.ask(IN_DOCUMENTS))
        with phases.phase("ask the model alone the same: it can't know, and says something all the same"):
            closed_book(model)
        with phases.phase("ask the assistant what its documents don't hold"):
            show_answer(NOWHERE, answers.ask(NOWHERE))


def closed_book(model: Endpoint) -> None:
    """Ask the model without documents."""
    print(f"   Q: {IN_DOCUMENTS}\n   A: {ask(model, IN_DOCUMENTS).strip()}")


def show_answer(question: str, answer: Answer) -> None:
    """Print an answer with its sources, or the refusal and why."""
    print(f"   Q: {question}\n   A: {answer.text.strip()}")
    for citation in answer.citations:
        print(f'      [{citation.number}] {citation.title or citation.document}: "{citation.quote}"')
    if answer.refusal is not None:
        print(f"      (refused: {answer.refusal})")


@dataclass
class Shown:
    """Conditions that were printed already."""

    last: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def changed(self, model: R) -> R | None:
        """Print what changed, conditions of the same words on one line; return the resource when it is Ready."""
        lines: dict[str, list[str]] = {}
        for item in model.status.conditions:
            now = (item.status.value, item.reason, item.message)
            if self.last.get(item.type) != now:
                self.last[item.type] = now
                lines.setdefault(f"{item.reason}: {item.message}", []).append(f"{item.type}={item.status.value}")
        for words, types in lines.items():
            elapsed = time.monotonic() - self.started
            print(f"   {elapsed:5.1f}s {' '.join(types)}  {words}", flush=True)
        return model if model.shown("Ready")[0] == "True" else None


def sizing_text(model: Model) -> str:
    """Return the arithmetic that gave the pod its memory and CPU."""
    sizing = model.status.sizing
    lines = sizing.formula if sizing is not None else []
    return "\n".join(["\nHow its pod was sized (status.sizing):", *(f"   {line}" for line in lines)])


def timing_text(phases: Phases) -> str:
    """Return each phase's seconds."""
    lines = [f"   {seconds:7.1f} s  {name}" for name, seconds in phases.done]
    total = sum(seconds for _, seconds in phases.done)
    return "\n".join(["\nWhat took how long:", *lines, f"   {total:7.1f} s  in all"])


def next_text(kube: Kube, namespace: str) -> str:
    """Return what to try next, ready to paste."""
    kubeconfig = shlex.quote(str(kube.cluster.kubeconfig))
    inside = f"-n {shlex.quote(namespace)}"
    sed = f"sed 's/^  name: gemma$/  name: {MODEL}/' samples/compactmodel-gemma.yaml"
    return f"""
The cluster stays up. What to try next:

   export KUBECONFIG={kubeconfig}
   export PATH={shlex.quote(str(kube.cluster.kubectl_binary.parent))}:$PATH

   kubectl get cmodel {inside}
   kubectl describe cmodel {MODEL} {inside}
   uv run --no-sync nimblet ask {MODEL} {inside} "Name three planets."
   kubectl get ridx,asst {inside}
   kubectl scale cmodel {MODEL} {inside} --replicas=2

   # swap the model while it serves: the old pod answers until the new one does
   {sed} | kubectl apply {inside} -f -
   kubectl get cmodel {MODEL} {inside} --watch

   make down        # removes the cluster and everything of it"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
