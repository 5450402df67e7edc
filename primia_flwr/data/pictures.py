"""Which stored images are the same picture, whatever their files' formats and headers are."""

from primia_flwr.data.files.same_picture import same_pictures
from primia_flwr.data.files.store import Store


def pictures_of(store: Store) -> dict[str, str]:
    """Return by path what images of the same picture share, as `same_pictures` says it.

    A store of an earlier version does not know it, and is looked through.
    """
    if store.pictures:
        return store.pictures
    rows = store.mapped().numpy().reshape(len(store.row_of), -1)
    return same_pictures(rows, store.row_of, store.digests)
