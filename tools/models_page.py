"""Writes `docs/models.md` from the presets, behind an introduction that is kept by hand."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from server.llm.presets import Preset, Side, shipped_presets

INTRODUCTION = Path(__file__).with_name("models_intro.md")

VERIFIED = {
    "recordings": "recorded answers",
    "referee": "an independent program",
    "own": "a server of this project",
    "documents": "documents only",
}


def models(generated: str) -> str:
    """The page; `generated` is the line that says so."""
    presets = shipped_presets()
    lines = ["# Models\n", generated, INTRODUCTION.read_text(encoding="utf-8"), "## Presets\n", *_table(presets), ""]
    for name, preset in presets.items():
        lines += _section(name, preset)
    return "\n".join(lines).rstrip() + "\n"


def _table(presets: Mapping[str, Preset]) -> Iterator[str]:
    yield "No vendor was called to make this table. *Recorded answers* are those of the program named, read at every"
    yield "split of their bytes; *an independent program* made the same request, or answered it.\n"
    yield "| Preset | Vendor | Transport | Needs | Pictures | Thinking switch | Verified against |"
    yield "|---|---|---|---|---|---|---|"
    for name, preset in presets.items():
        for transport in preset.transports:
            side = preset.side(transport)
            assert side is not None
            yield (
                f"| `{name}` | {preset.title} | {transport} | {_needs(preset, side)} | {side.pictures} "
                f"| {_switch(side)} | {_verified(side)} |"
            )


def _needs(preset: Preset, side: Side) -> str:
    needs = [f"`{preset.key_name}`"] if preset.key_name else []
    if not side.address:
        needs.append("its address")
    return ", ".join(needs) or "–"


def _switch(side: Side) -> str:
    ways = [way for way, fields in (("on", side.thinking.on), ("off", side.thinking.off)) if fields is not None]
    return ", ".join(ways) or "–"


def _verified(side: Side) -> str:
    how = VERIFIED[side.verified]
    return f"{how} ({side.evidence})" if side.evidence else how


def _section(name: str, preset: Preset) -> Iterator[str]:
    yield f"### {preset.title}\n"
    yield f"{preset.note}\n"
    yield f"{_sent(preset)}\n"
    yield "```toml"
    yield from example(name, preset)
    yield "```\n"


def _sent(preset: Preset) -> str:
    sentences = []
    for transport in preset.transports:
        side = preset.side(transport)
        assert side is not None
        known = side.parameters
        sent = []
        if known.temperature is not None:
            first = "above " if known.temperature.least_exclusive else ""
            last = "below " if known.temperature.most_exclusive else ""
            sent.append(f"a temperature from {first}{known.temperature.least:g} to {last}{known.temperature.most:g}")
            if known.temperature.fixed_for:
                sent[-1] += f" (none for {', '.join(f'`{pattern}`' for pattern in known.temperature.fixed_for)})"
        if known.max_tokens:
            most = f" up to {known.most_tokens}" if known.most_tokens else ""
            sent.append(f"`{known.max_tokens}`{most}")
        if known.user:
            sent.append(f"the person's pseudonym as `{known.user}`")
        where = f" over {transport}" if len(preset.transports) > 1 else ""
        sentences.append(f"Sent{where}: {', '.join(sent)}." if sent else f"Sent{where}: the messages alone.")
    return " ".join(sentences)


def example(name: str, preset: Preset) -> Iterator[str]:
    """The shortest entry of `models` that works, in TOML."""
    yield f"[models.{name}]"
    yield f'preset = "{name}"'
    side = preset.http or preset.grpc
    assert side is not None
    if not side.address:
        yield f'{"base_url" if preset.http else "target"} = "{side.address_example}"'
    if preset.example_model or name != "weconverse":
        yield f'model = "{preset.example_model or "your-model"}"'
    if preset.key_name:
        yield f'api_key = "env:{preset.key_name}"'
    if len(preset.transports) > 1:
        yield 'transport = "http" # or "grpc"'
