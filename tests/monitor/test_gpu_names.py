"""Names of cards from the tables of the system, as these are written."""

from pathlib import Path

import pytest

from app.monitor.amd import open_amd_probes
from app.monitor.gpu_names import amd_name, intel_name

AMD = """\
# List of AMDGPU IDs
#
# Syntax:
# device_id,\trevision_id,\tproduct_name        <-- single tab after comma

1.0.0
744B,\t00,\tAMD Radeon Pro W7900D
744C,\tC8,\tAMD Radeon RX 7900 XTX
744C,\tCC,\tAMD Radeon RX 7900 XT
"""
PCI = """\
#
1002  Advanced Micro Devices, Inc. [AMD/ATI]
\te20b  Not this one [Nor this]
8086  Intel Corporation
\t56a0  DG2 [Arc A770]
\t\t172f 3937  Some board
\t7d55  Meteor Lake-P [Intel Arc Graphics]
\te20b  Battlemage G21 [Arc B580]
\te20d  Battlemage G21
9004  Adaptec
\te20c  Of another maker [Wrong]
"""


def card(folder: Path, *, number: str, revision: str = "0x00") -> Path:
    (folder / "device").write_text(f"{number}\n", "utf-8")
    (folder / "revision").write_text(f"{revision}\n", "utf-8")
    return folder


def table(folder: Path, text: str) -> Path:
    path = folder / "table.ids"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("revision", "name"),
    [("0xc8", "AMD Radeon RX 7900 XTX"), ("0xcc", "AMD Radeon RX 7900 XT"), ("0x11", None)],
)
def test_amd_s_cards_differ_in_the_revision(tmp_path: Path, revision: str, name: str | None):
    device = card(tmp_path, number="0x744c", revision=revision)
    assert amd_name(device, (tmp_path / "none", table(tmp_path, AMD))) == name


@pytest.mark.parametrize(
    ("number", "name"),
    [
        ("0xe20b", "Intel Arc B580"),
        ("0x56a0", "Intel Arc A770"),
        ("0x7d55", "Intel Arc Graphics"),
        ("0xe20d", "Intel Battlemage G21"),
        ("0xe20c", None),
    ],
)
def test_intel_s_cards_stand_among_all_of_pci(tmp_path: Path, number: str, name: str | None):
    assert intel_name(card(tmp_path, number=number), (table(tmp_path, PCI),)) == name


def test_without_numbers_or_tables_there_is_no_name(tmp_path: Path):
    assert amd_name(tmp_path, (table(tmp_path, AMD),)) is None
    assert intel_name(tmp_path, (table(tmp_path, PCI),)) is None
    device = card(tmp_path, number="0x744c")
    assert amd_name(device, (tmp_path / "none",)) is None
    assert intel_name(device, ()) is None


def test_a_card_that_does_not_tell_its_name_has_it_from_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "drm/card0/device"
    folder.mkdir(parents=True)
    card(folder, number="0x744c", revision="0xc8")
    for name, content in (
        ("vendor", "0x1002"),
        ("mem_info_vram_total", f"{24 << 30}"),
        ("mem_info_vram_used", "10"),
    ):
        (folder / name).write_text(content, "utf-8")
    tables = (table(tmp_path, AMD),)
    monkeypatch.setattr("app.monitor.amd.amd_name", lambda device: amd_name(device, tables))
    (probe,) = open_amd_probes(tmp_path / "drm", tmp_path / "kfd")
    snapshot = probe.snapshot(None)
    assert snapshot is not None
    assert snapshot.name == "AMD Radeon RX 7900 XTX"
