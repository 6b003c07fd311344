"""vlj-edge verify: is every file of a bundle the one that was exported?"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
def verify(bundle: Path | None) -> None:
    """Hash every file of BUNDLE (the nano bundle when not named) and compare with its manifest."""
    from vlj_edge.bundle import nano_bundle, verify_bundle

    directory = bundle or nano_bundle()
    manifest = verify_bundle(directory)
    size = sum(file.bytes for file in manifest.files.values()) / 1e6
    click.echo(f"{directory}: {len(manifest.files)} files, {size:.1f} MB, all as exported")
