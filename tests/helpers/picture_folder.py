"""Real images -> a folder of pictures as a user has them: a subfolder a class, PNG files."""

from PIL import Image


def write_folder(path, images, labels, classes, num_each, change=lambda image: image):
    """The first `num_each` images of each of `classes` (label -> name of the subfolder), changed by `change`."""
    for label, name in classes.items():
        (path / name).mkdir(parents=True)
        for number, row in enumerate((labels == label).nonzero()[0][:num_each]):
            Image.fromarray(change(images[row])).save(path / name / f"{number:04}.png")
    return path
