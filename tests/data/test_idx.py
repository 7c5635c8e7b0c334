"""idx.py: round trips of arrays; every damaged file is rejected by name."""

import gzip
import random

import numpy as np
import pytest

from conftest import ROOT
from gluon_lenet.data import idx
from gluon_lenet.errors import InputError

SAMPLES = ROOT / "tests" / "samples"
IMAGES = SAMPLES / "fashion_mnist" / "train-images-idx3-ubyte.gz"
LABELS = SAMPLES / "fashion_mnist" / "train-labels-idx1-ubyte.gz"


def header(*shape, dtype=0x08, zeros=b"\0\0"):
    return zeros + bytes((dtype, len(shape))) + b"".join(size.to_bytes(4, "big") for size in shape)


def test_reads_images_and_labels_gzipped_or_not(tmp_path):
    images, labels = idx.read_idx(IMAGES), idx.read_idx(LABELS)
    assert (images.dtype, images.shape, labels.shape) == (np.uint8, (256, 28, 28), (256,))
    assert labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    unpacked = tmp_path / "images.gz"  # the contents count, not the name
    unpacked.write_bytes(gzip.decompress(IMAGES.read_bytes()))
    assert np.array_equal(idx.read_idx(unpacked), images)


@pytest.mark.parametrize("shape", [(1,), (3, 4), (2, 28, 28), (1, 1, 1)])
@pytest.mark.parametrize("name", ["array", "array.gz"])
def test_write_then_read_gives_the_same_array(tmp_path, shape, name):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    idx.write_idx(tmp_path / name, array)
    assert np.array_equal(idx.read_idx(tmp_path / name), array)
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


def test_write_is_reproducible_and_the_format_is_the_published_one(tmp_path):
    array = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    assert idx.idx_bytes(array) == b"\0\0\x08\x02" + b"\0\0\0\x02" + b"\0\0\0\x03" + bytes(range(1, 7))
    idx.write_idx(tmp_path / "a.gz", array)
    idx.write_idx(tmp_path / "b.gz", np.asfortranarray(array))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2), np.float32), np.uint8(3), np.zeros((0, 28, 28), np.uint8), np.zeros((1, 1, 1, 1), np.uint8)],
)
def test_write_refuses_what_it_could_not_read(array, tmp_path):
    with pytest.raises(ValueError, match=r"uint8 of 1 to 3 dimensions, not .* of shape"):
        idx.write_idx(tmp_path / "x", np.asarray(array))
    assert not (tmp_path / "x").exists()


DAMAGED = {
    "empty": (b"", "0 bytes are too short"),
    "three bytes": (b"\0\0\x08", "3 bytes are too short"),
    "magic": (header(4, zeros=b"\0\1") + bytes(4), "begins with 00 01 08 01"),
    "web page": (b"<!DOCTYPE html><html>", "begins with 3c 21 44 4f"),
    "float32": (header(1, dtype=0x0D) + bytes(4), "type code 0x0d; must be 0x08"),
    "int8": (header(4, dtype=0x09) + bytes(4), "type code 0x09; must be 0x08"),
    "no dimension": (b"\0\0\x08\0" + bytes(4), "0 dimensions"),
    "four dimensions": (header(1, 1, 1, 1) + bytes(1), "4 dimensions"),
    "255 dimensions": (b"\0\0\x08\xff" + bytes(4096), "255 dimensions"),
    "header cut": (header(2, 28, 28)[:-1], "15 bytes end inside the header of 16"),
    "zero images": (header(0, 28, 28), "promises 0 x 28 x 28 values, which is none"),
    "zero height": (header(2, 0, 28), "promises 2 x 0 x 28 values, which is none"),
    "one byte short": (header(2, 2, 2) + bytes(7), "cut off; the header promises 2 x 2 x 2 values, 7 follow"),
    "nothing follows": (header(60000), "cut off; the header promises 60000 values, 0 follow"),
    "one byte more": (header(2, 2, 2) + bytes(9), "1 bytes trail the 2 x 2 x 2 values"),
    "negative": (header(2**32 - 1) + bytes(3), "promises 4294967295"),
    "overflow of 64 bits": (header(2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(1), "1 follow"),
    "overflow to the right size": (header(2**31, 2**31, 4) + b"", "0 follow"),  # 2**64 is 0 in 64 bits
    "little endian": (b"\0\0\x08\1" + (4).to_bytes(4, "little") + bytes(4), "promises 67108864"),
}


@pytest.mark.parametrize(("data", "wrong"), DAMAGED.values(), ids=DAMAGED)
def test_refuses_a_damaged_file_by_its_name(data, wrong, tmp_path):
    path = tmp_path / "some-idx"
    for packed in (data, gzip.compress(data)):
        path.write_bytes(packed)
        with pytest.raises(idx.IDXError) as error:
            idx.read_idx(path)
        assert str(error.value).startswith(f"{path}: ")
        assert wrong in str(error.value)
        assert "\n" not in str(error.value)


def test_errors_are_bad_input():
    assert issubclass(idx.IDXError, InputError)


@pytest.mark.parametrize(
    ("shape", "wrong"),
    [((4,), "holds 4 values"), ((2, 28), "holds 2 x 28"), ((2, 28, 27), "x 27"), ((2, 32, 32), "n x 28 x 28")],
)
def test_images_have_three_dimensions_and_the_right_size(shape, wrong):
    with pytest.raises(idx.IDXError, match=rf"^pictures: .*{wrong}"):
        idx.parse_images(idx.idx_bytes(np.zeros(shape, np.uint8)), "pictures")


def test_labels_have_one_dimension_and_stay_in_range():
    with pytest.raises(idx.IDXError, match=r"^classes: holds 2 x 2 values"):
        idx.parse_labels(idx.idx_bytes(np.zeros((2, 2), np.uint8)), "classes")
    with pytest.raises(idx.IDXError, match=r"^classes: label 10 at position 2; labels are 0 to 9"):
        idx.parse_labels(idx.idx_bytes(np.array([0, 9, 10, 200], np.uint8)), "classes")
    assert idx.parse_labels(idx.idx_bytes(np.array([0, 9], np.uint8)), "classes").tolist() == [0, 9]


def test_there_is_one_label_an_image():
    images, labels = np.zeros((3, 28, 28), np.uint8), np.zeros(4, np.uint8)
    with pytest.raises(idx.IDXError, match=r"^b: 4 labels for the 3 images of a"):
        idx.check_pair(images, labels, "a", "b")
    idx.check_pair(images, labels[:3], "a", "b")


def test_a_gzip_bomb_is_cut_at_the_limit():
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 60_000
    with pytest.raises(idx.IDXError, match=r"^bomb: longer than the 1000 bytes"):
        idx.unpack(bomb, "bomb", 1000)
    assert len(idx.unpack(gzip.compress(bytes(1000)), "fits", 1000)) == 1000


def test_a_file_that_deflate_cannot_shrink_fits(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, 1_000_000, np.uint8).tobytes()
    (tmp_path / "noise.gz").write_bytes(gzip.compress(noise, 0))
    assert idx.read_bytes(tmp_path / "noise.gz", len(noise)) == noise
    (tmp_path / "noise").write_bytes(noise)
    with pytest.raises(idx.IDXError, match="longer than the 999999 bytes"):
        idx.read_bytes(tmp_path / "noise", len(noise) - 1)


@pytest.mark.parametrize("path", [IMAGES, LABELS], ids=["images", "labels"])
@pytest.mark.parametrize("packed", [True, False], ids=["gz", "idx"])
def test_fuzz_only_idx_errors_come_out(path, packed):
    """Cut, flipped, inserted and removed bytes: an IDXError or an array of the size in the header, nothing else."""
    original, dice = path.read_bytes() if packed else gzip.decompress(path.read_bytes()), random.Random(0)
    refused = 0
    for round in range(400):
        data = bytearray(original)
        reach = min(len(data), 32 if round % 2 else len(data))  # every second time near the header
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(reach)
            match dice.randrange(4):
                case 0:
                    data[at:] = b""
                case 1 if at < len(data):
                    data[at] ^= 1 << dice.randrange(8)
                case 2:
                    data[at:at] = dice.randbytes(dice.randint(1, 9))
                case 3:
                    del data[at : at + dice.randint(1, 9)]
        try:
            array = idx.parse_idx(idx.unpack(bytes(data), "fuzzed", len(original) * 10 + 100_000), "fuzzed")
        except idx.IDXError:
            refused += 1
        else:
            assert array.dtype == np.uint8
            assert idx.idx_bytes(array) == (idx.unpack(bytes(data), "fuzzed") if packed else bytes(data))
    assert refused > 200
