"""Owns the paths of the browser pages that other parts link to."""


def collection_path(entity: str, collection: str) -> str:
    """The page of a collection."""
    return f"/collections/{entity}/{collection}"


def container_path(entity: str, collection: str, container: str) -> str:
    """The page of a container: its tags and their history."""
    return f"/collections/{entity}/{collection}/{container}"


def image_path(entity: str, collection: str, container: str, sha256: str) -> str:
    """The page of one image."""
    return f"/collections/{entity}/{collection}/{container}/sha256.{sha256}"
