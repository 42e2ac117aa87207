"""Judge models: against their source, against each other, and on their own job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.common import context as contexts
from scripts.common import program
from scripts.results import base

app = program.program(__doc__)

Gates = Annotated[Any, typer.Option(parser=program.parse_json, metavar="JSON", help='gates, such as {"kl": 0.25}')]
Limit = Annotated[int | None, typer.Option(help="ask at most so many cases, spread over the file; default 100")]
Output = Annotated[Path, typer.Option(help="JSON file to write")]


@app.command()
def reference(
    checkpoint: Annotated[Path, typer.Option(help="Hugging Face checkpoint folder")],
    text: Annotated[list[str], typer.Option(help="evaluation text, as FILE or NAME=FILE; may be repeated")],
    output: Annotated[Path, typer.Option(help="folder to write")],
    tokens: Annotated[int, typer.Option(help="at most so many tokens of each text")] = contexts.JUDGED,
    context: Annotated[int, typer.Option(help="the context that packages will have")] = contexts.DEFAULT,
) -> None:
    """Write the float model's log-probabilities over some texts."""
    from scripts.quality import reference as references

    references.build(checkpoint, references.parse_texts(text), output, tokens, context)


@app.command()
def compare(
    onnx: Annotated[Path, typer.Option(help="GenAI folder to judge")],
    reference: Annotated[Path, typer.Option(help="what `reference` wrote: the tokens, and the checkpoint's truth")],
    output: Output,
    export: Annotated[Path | None, typer.Option(help="compare with this GenAI folder, not with the checkpoint")] = None,
    gates: Gates = "{}",
    target: Annotated[str, typer.Option(help="the execution provider that it was made for")] = "cpu",
) -> None:
    """Measure KL divergence, top-1 agreement and perplexity against the checkpoint or the float export."""
    from scripts.quality import compare as comparing

    result = comparing.run(onnx, reference, export, gates, target)
    _finish(output, result)


@app.command()
def device(
    package: Annotated[Path, typer.Option(help="package to run")],
    export: Annotated[Path, typer.Option(help="float GenAI folder to hold it against")],
    reference: Annotated[Path, typer.Option(help="what `reference` wrote: the tokens")],
    output: Output,
    cases: Annotated[Path | None, typer.Option(help="cases, one JSON object a line; some of them are asked")] = None,
    gates: Gates = "{}",
    provider: Annotated[str, typer.Option(help="the execution provider that it was made for")] = "webgpu",
) -> None:
    """Run a precision on the device that it was made for, or on a software adapter."""
    from scripts.quality import device as devices

    _finish(output, devices.run(package, export, reference, cases, gates, provider))


@app.command()
def domain(
    package: Annotated[Path, typer.Option(help="package to judge")],
    cases: Annotated[Path, typer.Option(help="cases, one JSON object a line")],
    output: Output,
    schema: Annotated[Path | None, typer.Option(help="JSON schema of an answer")] = None,
    baseline: Annotated[Path | None, typer.Option(help="domain.json of the float export, packaged alike")] = None,
    gates: Gates = "{}",
    limit: Limit = None,
    measure: Annotated[
        str | None, typer.Option(help="the precision that the baseline is of, the float export being too large")
    ] = None,
) -> None:
    """Put cases of the model's own job to it, in the Foundry runtime."""
    from scripts.quality import domain as domains

    asked = domains.ASKED if limit is None else limit
    _finish(output, domains.run(package, cases, schema, baseline, gates, asked, measure))


@app.command()
def baseline(
    package: Annotated[Path, typer.Option(help="package of the model without its fine-tuning")],
    checkpoint: Annotated[Path, typer.Option(help="its Hugging Face checkpoint: has it a chat template of its own?")],
    cases: Annotated[Path, typer.Option(help="cases, one JSON object a line")],
    output: Output,
    schema: Annotated[Path | None, typer.Option(help="JSON schema of an answer")] = None,
    limit: Limit = None,
) -> None:
    """Put the same cases to the model without its fine-tuning: what was gained is told by comparing."""
    from scripts.quality import baseline as baselines
    from scripts.quality import domain as domains

    asked = domains.ASKED if limit is None else limit
    _finish(output, baselines.run(package, checkpoint, cases, schema, asked))


@app.command()
def lm_eval(
    package: Annotated[Path, typer.Option(help="package to judge")],
    tasks: Annotated[Path, typer.Option(help="folder of lm-eval task files; all of them run")],
    output: Output,
    baseline: Annotated[Path | None, typer.Option(help="lm-eval.json of the float export, packaged alike")] = None,
    gates: Gates = "{}",
) -> None:
    """Put lm-eval tasks of the user's to a package (needs the extra lm-eval)."""
    from scripts.quality import lm_eval as harness

    _finish(output, harness.run(package, tasks, baseline, gates, output.parent))


@app.command()
def recommend(
    export_quality: Annotated[Path, typer.Option(help="quality.json of the float export")],
    precisions: Annotated[Any, typer.Option(parser=program.parse_json, metavar="JSON", help="names, best liked first")],
    output: Output,
    quality: Annotated[list[str] | None, typer.Option(help="<precision>/quality.json or PRECISION=FILE")] = None,
    domain: Annotated[list[str] | None, typer.Option(help="<precision>/domain.json or PRECISION=FILE")] = None,
    elsewhere: Annotated[
        Any,
        typer.Option(parser=program.parse_json, metavar="JSON", help="{precision: execution provider} not run here"),
    ] = "null",
) -> None:
    """Name the first precision that passed."""
    from scripts.quality import recommend as recommending

    result = recommending.from_files(export_quality, quality or [], domain or [], precisions, elsewhere or {})
    base.write(output, result)
    print(f"recommended: {result.recommended or 'none'}: {'; '.join(result.reasons)}", flush=True)


def _finish(output: Path, result: Any) -> None:
    base.write(output, result)
    print(f"quality: {result.verdict}" + "".join(f"; {reason}" for reason in result.reasons), flush=True)


if __name__ == "__main__":
    program.main(app, watched=True)
