"""Writes the committed stubs, or checks them: the contract's, and those of vendors' protocols.

The contract lies in `proto/`, and its stubs in `clients/`. The messages of vendors lie in
`server/llm/wire/`, and their stubs beside them.

The generator is a pinned, older grpcio-tools: stubs need a runtime at least as new as
their generator, and people who install the client bring runtimes of their own.
"""

import argparse
import filecmp
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
CLIENTS = ROOT / "clients"
WIRE = Path("server/llm/wire")


def _google_protos() -> Path:
    import google.api  # a namespace package: its folder holds the .proto files beside the modules

    return Path(next(iter(google.api.__path__))).parent.parent


def _protoc(root: Path, files: Iterable[Path], *arguments: str) -> None:
    """Runs protoc; names in descriptors and imports in stubs are paths below `root`."""
    import grpc_tools

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    binaries = Path(sys.executable).parent
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={root}",
            f"--proto_path={_google_protos()}",
            f"--proto_path={well_known}",
            f"--plugin=protoc-gen-mypy={binaries / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={binaries / 'protoc-gen-mypy_grpc'}",
            *arguments,
            *(str(path.relative_to(root)) for path in sorted(files)),
        ],
        check=True,
    )


def generate(clients: Path, root: Path) -> None:
    """Writes the stubs of the contract below `clients`, and those of vendors below `root`."""
    _protoc(
        PROTO,
        PROTO.rglob("*.proto"),
        f"--python_out={clients}",
        f"--grpc_python_out={clients}",
        f"--mypy_out=quiet:{clients}",
        f"--mypy_grpc_out=quiet:{clients}",
    )
    for folder in ("weconverse/v1", "weconverse/provider", "weconverse/provider/v1"):
        (clients / folder / "__init__.py").write_text('"""Generated from proto/; do not edit."""\n', encoding="utf-8")
    # Messages only: their methods are called by path.
    _protoc(ROOT, (ROOT / WIRE).glob("*.proto"), f"--python_out={root}", f"--mypy_out=quiet:{root}")


def _generated(clients: Path, root: Path) -> dict[str, Path]:
    found = {
        f"clients/{path.relative_to(clients)}": path
        for folder in ("weconverse/v1", "weconverse/provider")
        for path in (clients / folder).rglob("*.py*")
        if "__pycache__" not in path.parts
    }
    return found | {str(path.relative_to(root)): path for path in (root / WIRE).glob("*_pb2.py*")}


def _drift() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        fresh_root = Path(folder)
        for part in ("clients/weconverse/v1", "clients/weconverse/provider/v1", WIRE):
            (fresh_root / part).mkdir(parents=True)
        generate(fresh_root / "clients", fresh_root)
        fresh, committed = _generated(fresh_root / "clients", fresh_root), _generated(CLIENTS, ROOT)
        return sorted(
            name
            for name in fresh.keys() | committed.keys()
            if name not in fresh
            or name not in committed
            or not filecmp.cmp(fresh[name], committed[name], shallow=False)
        )


def _buf(*arguments: str) -> bool:
    binary = Path(sys.executable).parent / "buf"
    return subprocess.run([binary, *arguments], cwd=PROTO, check=False).returncode == 0


def _image(folder: Path, proto: Path) -> Path:
    """A descriptor set with everything it imports, which lets buf work without its registry."""
    import grpc_tools

    image = folder / f"{proto.parent.name or 'contract'}.binpb"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={proto}",
            f"--proto_path={_google_protos()}",
            f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={image}",
            *(str(path.relative_to(proto)) for path in sorted(proto.rglob("*.proto"))),
        ],
        check=True,
    )
    return image


def _published(folder: Path) -> Path | None:
    """The contract as it stands on main, or None where there is none to compare with."""
    for ref in ("origin/main", "main"):
        listing = subprocess.run(
            ["git", "ls-tree", "-r", "--name-only", ref, "proto"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if listing.returncode == 0 and listing.stdout.strip():
            archive = subprocess.run(["git", "archive", ref, "proto"], cwd=ROOT, capture_output=True, check=True)
            subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
            return folder / "proto"
    return None


def check() -> int:
    """Returns 0 if the stubs are fresh, the contract lints clean and nothing broke against main."""
    problems = [f"stub is stale, run `make proto`: {name}" for name in _drift()]
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        image = _image(folder, PROTO)
        paths = ["--path", "weconverse"]
        if not _buf("lint", str(image), *paths):
            problems.append("buf lint has findings (above)")
        published = _published(folder)
        if published is not None:
            against = _image(folder / "proto", published)
            if not _buf("breaking", str(image), "--against", str(against), *paths):
                problems.append("the contract breaks callers of main (above); only add to it")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail on drift, findings or breaks")
    if parser.parse_args().check:
        return check()
    generate(CLIENTS, ROOT)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
