"""Which pictures a job's contact sheet shows, and when it is made anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from farm.inspector import Inspector
from farm.records import JobDetail
from farm.sheets import contact_sheet
from farm.states import VersionState
from pipeline.errors import NotFoundError, PlateError
from pipeline.media.proxy import write_jpeg
from pipeline.publish.values import proxy_path
from tests.queue_kit import open_farm

RED, GREEN, BLUE = (200, 20, 20), (20, 180, 20), (20, 20, 200)
Colour = tuple[int, int, int]


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    made = Inspector()
    yield made
    made.close()


@pytest.fixture
def detail(tmp_path: Path) -> JobDetail:
    """A job of two takes that hasn't published anything; its versions' folders lie in the test's own."""
    with open_farm() as farm:
        found = farm.job(farm.submit("1001-1011", takes=2).id)
    versions = tuple(replace(v, folder=str(tmp_path / f"v{v.number:03d}")) for v in found.job.versions)
    assert [v.take for v in versions] == [0, 1]
    return replace(found, job=replace(found.job, versions=versions))


def published(detail: JobDetail, *takes: int) -> JobDetail:
    versions = tuple(
        replace(v, state=VersionState.PUBLISHED, frames="1001-1011") if v.take in takes else v
        for v in detail.job.versions
    )
    return replace(detail, job=replace(detail.job, versions=versions))


def shown(detail: JobDetail, take: int, kind: str, colour: Colour, frames: range = range(1001, 1012)) -> None:
    """Put proxies of one colour into a take's version."""
    folder = Path(next(v.folder for v in detail.job.versions if v.take == take))
    for frame in frames:
        path = proxy_path(folder, kind, frame)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jpeg(path, np.full((18, 32, 3), colour, np.uint8))


def coloured(sheet: Path, colour: Colour) -> int:
    """How many pictures of a colour a sheet shows."""
    picture = cv2.imread(str(sheet))
    assert picture is not None
    near = (np.abs(picture[..., ::-1].astype(int) - colour) < 40).all(axis=2).astype(np.uint8)
    return int((cv2.connectedComponentsWithStats(near)[2][1:, cv2.CC_STAT_AREA] > 1000).sum())


def test_each_published_take_shows_five_frames(detail: JobDetail, inspector: Inspector, tmp_path: Path) -> None:
    shown(detail, 0, "beauty", RED)
    shown(detail, 1, "beauty", BLUE)
    sheet = contact_sheet(published(detail, 0, 1), inspector, tmp_path / "sheets")
    assert (coloured(sheet, RED), coloured(sheet, BLUE)) == (5, 5)


def test_the_overlay_goes_before_the_picture(detail: JobDetail, inspector: Inspector, tmp_path: Path) -> None:
    shown(detail, 0, "beauty", RED)
    shown(detail, 0, "overlay", GREEN, range(1001, 1005))
    sheet = contact_sheet(published(detail, 0), inspector, tmp_path / "sheets")
    assert (coloured(sheet, GREEN), coloured(sheet, RED)) == (2, 3), "1001, 1003, 1006, 1009 and 1011 are shown"


def test_a_take_that_is_not_published_is_not_shown_though_its_pictures_lie_there(
    detail: JobDetail, inspector: Inspector, tmp_path: Path
) -> None:
    shown(detail, 0, "beauty", RED)
    shown(detail, 1, "beauty", BLUE)
    sheet = contact_sheet(published(detail, 1), inspector, tmp_path / "sheets")
    assert (coloured(sheet, RED), coloured(sheet, BLUE)) == (0, 5)
    with pytest.raises(NotFoundError, match="published nothing"):
        contact_sheet(detail, inspector, tmp_path / "sheets")


def test_a_sheet_is_kept_until_another_take_is_published(
    detail: JobDetail, inspector: Inspector, tmp_path: Path
) -> None:
    shown(detail, 0, "beauty", RED)
    shown(detail, 1, "beauty", BLUE)
    one = contact_sheet(published(detail, 0), inspector, tmp_path / "sheets")
    made_at = one.stat().st_mtime_ns
    assert contact_sheet(published(detail, 0), inspector, tmp_path / "sheets") == one
    assert one.stat().st_mtime_ns == made_at
    both = contact_sheet(published(detail, 0, 1), inspector, tmp_path / "sheets")
    assert both != one
    assert coloured(both, BLUE) == 5


def test_a_picture_that_leads_out_of_the_version_is_not_shown(
    detail: JobDetail, inspector: Inspector, tmp_path: Path
) -> None:
    """A version's folder may lie where others write: a link in it must not show what they couldn't see."""
    shown(detail, 0, "beauty", RED)
    secret = tmp_path / "secret.jpg"
    write_jpeg(secret, np.full((18, 32, 3), BLUE, np.uint8))
    link = proxy_path(tmp_path / "v001", "beauty", 1001)
    link.unlink()
    link.symlink_to(secret)
    sheet = contact_sheet(published(detail, 0), inspector, tmp_path / "sheets")
    assert (coloured(sheet, RED), coloured(sheet, BLUE)) == (4, 0)


def test_versions_without_proxies_have_no_sheet(detail: JobDetail, inspector: Inspector, tmp_path: Path) -> None:
    with pytest.raises(PlateError, match="no pictures"):
        contact_sheet(published(detail, 0), inspector, tmp_path / "sheets")
    assert list((tmp_path / "sheets").iterdir()) == []
