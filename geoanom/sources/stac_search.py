"""Which items a STAC catalog holds: static catalogs by their links, APIs by a search."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from geoanom.errors import InputError, SceneError
from geoanom.raster.environ import TRIES
from geoanom.sources.dates import acquisition_datetime
from geoanom.sources.remote import is_remote
from geoanom.sources.stac import datetime_of
from geoanom.sources.stac_documents import CATALOGS, Document, read_document, root_of, target_of
from geoanom.sources.web import SCHEMES, check_hop, public_name, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geoanom.config import Config, Stac

MAX_DEPTH = 32
MAX_DOCUMENTS = 1_000_000
PAGE_ITEMS = 250
MAX_REPEATS = 1000
"""Items that a search may give twice before its pages count as a loop: new items shift the pages of a living catalog."""


def stac_items(uri: str, config: Config) -> list[str]:
    """The items of a catalog that the settings ask for (`sources.stac`), each as the path or URL that opens it.

    Args:
        uri: a static catalog or collection, the landing page of an API, or an item; local or remote.
        config: filters, the largest number of items, and the permission to reach what is remote.

    Returns:
        Sorted by the items' ids. Of more than `sources.stac.max_items` the first are taken, in the catalog's order.

    Raises:
        SceneError: the catalog cannot be had, may not be reached, or is none.
        InputError: it holds no item that is asked for, or pystac-client is needed and not installed.
    """
    document = read_document(uri, config)
    if document.kind in CATALOGS:
        found = _search(document, config) if _is_api(document) else _walk(document, config)
    elif document.kind == "Feature":
        found = iter([(document.title, document.where)])
    else:
        raise SceneError(document.name, "is no STAC catalog", "name a catalog.json, a collection.json or the landing page of an API")
    kept = sorted(islice(found, config.sources.stac.max_items))
    if not kept:
        raise InputError(document.name, "holds no item that is asked for", "check sources.stac: collections, bbox, datetime, clouds")
    return [where for _, where in kept]


def _is_api(document: Document) -> bool:
    conforms = document.content.get("conformsTo")
    return isinstance(conforms, list) and any("item-search" in str(entry) for entry in conforms)


def _walk(catalog: Document, config: Config) -> Iterator[tuple[str, str]]:
    """Id and address of the items of a static catalog, in the order of its links; each document is visited once."""
    start = catalog.where if is_remote(catalog.where) else str(Path(catalog.where).resolve())
    root, seen, todo = root_of(catalog), {start}, [(start, 0)]
    while todo:
        where, depth = todo.pop()
        document = catalog if where == start else read_document(where, config)
        if document.kind == "Feature":
            if _is_wanted(document.content, config.sources.stac):
                yield document.title, where
            continue
        found = [target_of(document, href, root) for href in document.links("child", "item")]
        new = [target for target in dict.fromkeys(found) if target not in seen]
        seen.update(new)
        if depth >= MAX_DEPTH or len(seen) > MAX_DOCUMENTS:
            what = f"is deeper than {MAX_DEPTH} levels or larger than {MAX_DOCUMENTS} documents"
            raise SceneError(catalog.name, what, "name a part of it")
        todo += [(target, depth + 1) for target in reversed(new)]


def _is_wanted(item: dict[str, Any], wanted: Stac) -> bool:
    """Does an item pass all filters?"""
    return (
        (wanted.collections is None or item.get("collection") in wanted.collections)
        and (wanted.bbox is None or _overlaps(item.get("bbox"), wanted.bbox))
        and (wanted.datetime is None or _within(datetime_of(item), wanted.datetime))
        and _is_clear(item, wanted)
    )


def _is_clear(item: dict[str, Any], wanted: Stac) -> bool:
    """Has it few enough clouds? One that does not say is taken for cloudy."""
    if wanted.max_cloud_percent is None:
        return True
    properties = item.get("properties")
    clouds = properties.get("eo:cloud_cover") if isinstance(properties, dict) else None
    return isinstance(clouds, int | float) and clouds <= wanted.max_cloud_percent


def _overlaps(box: object, wanted: tuple[float, float, float, float]) -> bool:
    if not isinstance(box, list) or len(box) not in (4, 6) or not all(isinstance(side, int | float) for side in box):
        return False
    west, south, east, north = box[0], box[1], box[-len(box) // 2], box[1 - len(box) // 2]
    return south <= wanted[3] and north >= wanted[1] and any(w <= wanted[2] and e >= wanted[0] for w, e in _spans(west, east))


def _spans(west: float, east: float) -> list[tuple[float, float]]:
    """A box's longitudes; two spans where it crosses the 180th meridian."""
    return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]


def _within(moment: str | None, wanted: str) -> bool:
    """Does a moment lie in an interval with its ends? An end counts as far as it is written: a day to its last second."""
    start, _, end = wanted.partition("/") if "/" in wanted else (wanted, "", wanted)
    first, last = (_comparable(text) for text in (start, end))
    return moment is not None and (not first or moment[: len(first)] >= first) and (not last or moment[: len(last)] <= last)


def _comparable(text: str) -> str:
    """A moment as `datetime_of` writes it; empty for an open end."""
    if text.strip() in ("", ".."):
        return ""
    return (acquisition_datetime({"ACQUISITION_DATETIME": text}, "") or text) if "T" in text.upper() else text.strip()


def _search(landing: Document, config: Config) -> Iterator[tuple[str, str]]:
    """Id and address of the items that an API finds."""
    wanted, seen, repeats = config.sources.stac, set[tuple[str, str]](), 0
    for item in _found(landing, config):
        key = (str(item.get("collection")), str(item.get("id")))
        repeats += key in seen
        if repeats > MAX_REPEATS or len(seen) > MAX_DOCUMENTS:
            raise SceneError(landing.name, "gives the same items again and again", "ask for less with sources.stac")
        if key not in seen and _is_clear(item, wanted):
            yield Document(landing.where, item).title, _address_of(item, landing)
        seen.add(key)


def _address_of(item: dict[str, Any], landing: Document) -> str:
    """Where an item of an API stands by itself."""
    own = Document(landing.where, item)
    for href in own.links("self"):
        return target_of(own, href, root_of(landing))
    parts = urlsplit(landing.where)
    path = f"{parts.path.rstrip('/')}/collections/{quote(str(item.get('collection')), safe='')}/items/{quote(str(item.get('id')), safe='')}"
    return parts._replace(path=path).geturl()


def _found(landing: Document, config: Config) -> Iterator[dict[str, Any]]:
    """Items page by page.

    Raises:
        SceneError: the API fails, or answers with what is no page of items.
        InputError: pystac-client is not installed.
    """
    if not is_remote(landing.where):
        raise SceneError(landing.name, "describes an API, which is searched at its URL", "name the URL of its landing page")
    try:
        from pystac import STACError
        from pystac_client.exceptions import APIError
        from requests import RequestException
    except ModuleNotFoundError as error:
        raise InputError(landing.name, "is an API, which needs pystac-client to be searched", "pip install 'geoanom[stac]'") from error
    wanted = config.sources.stac
    filters = {"collections": wanted.collections, "bbox": wanted.bbox, "datetime": wanted.datetime}
    try:
        yield from _client(landing, wanted).search(**filters, limit=min(wanted.max_items, PAGE_ITEMS)).items_as_dicts()
    except (APIError, STACError, RequestException, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        what = f"cannot be searched ({without_secrets(str(error)) or type(error).__name__})"
        raise SceneError(landing.name, what, "check sources.stac, or try again later") from error


def _client(landing: Document, wanted: Stac) -> Any:
    """A client of an API whose pages may lead only where `check_hop` lets them."""
    from pystac_client import Client
    from pystac_client.stac_api_io import StacApiIO

    class JudgedIO(StacApiIO):
        """Refuses local files and addresses that the API must not lead to."""

        def request(self, href: str, *args: Any, **kwargs: Any) -> str:
            check_hop(landing.where, href, landing.name, "leads")
            return super().request(href, *args, **kwargs)

        def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
            if isinstance(source, str) and urlsplit(source).scheme not in SCHEMES:
                raise SceneError(landing.name, f"leads to {public_name(source)!r}, which is no web page", "name another API")
            return super().read_text(source, *args, **kwargs)

    io = JudgedIO(timeout=wanted.timeout_s, max_retries=TRIES - 1)
    io.session.hooks["response"].append(lambda response, **_: _judge_redirect(response, landing))
    client = Client.from_dict(landing.content, href=landing.where)
    client._stac_io = io  # noqa: SLF001 - as Client.open does with a page that it has fetched itself
    return client


def _judge_redirect(response: Any, landing: Document) -> None:
    if response.is_redirect:
        check_hop(landing.where, urljoin(response.url, response.headers["Location"]), landing.name, "redirects")
