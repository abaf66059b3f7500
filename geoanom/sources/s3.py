"""Objects in S3 and in stores that speak its language; needs the extra ``s3``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from geoanom.errors import InputError, SceneError
from geoanom.raster.environ import TRIES, remote_options
from geoanom.sources.web import Answer, refusal, without_secrets

if TYPE_CHECKING:
    from rasterio.session import Session

SCHEME = "s3://"


@dataclass(frozen=True)
class S3File:
    """An object, read with the credentials, region and endpoint that boto3 finds in the environment and its own files."""

    name: str
    """``s3://bucket/key``; named in errors."""
    timeout_s: float

    @property
    def _place(self) -> tuple[str, str]:
        """Bucket and key."""
        bucket, _, key = self.name.removeprefix(SCHEME).partition("/")
        return bucket, key

    @cached_property
    def _client(self) -> Any:
        boto3, botocore = _boto(self.name)
        unsigned = {"signature_version": botocore.UNSIGNED} if _is_unsigned() else {}
        settings = botocore.config.Config(
            connect_timeout=self.timeout_s / TRIES,
            read_timeout=self.timeout_s / TRIES,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
            **unsigned,
        )
        return boto3.Session().client("s3", config=settings)

    def fetch(self, start: int, length: int) -> Answer:
        """A range of the object's bytes, shorter where it ends.

        Raises:
            SceneError: it cannot be had.
            InputError: boto3 is not installed.
        """
        bucket, key = self._place
        _, botocore = _boto(self.name)
        try:
            got = self._client.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{start + length - 1}")
            body = got["Body"].read()
        except botocore.exceptions.ClientError as error:
            raise refusal(self.name, error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)) from error
        except (botocore.exceptions.ConnectTimeoutError, botocore.exceptions.ReadTimeoutError) as error:
            what = f"gave no answer within {self.timeout_s:g} s"
            raise SceneError(self.name, what, "try again, or raise sources.read_timeout_s") from error
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.HTTPClientError) as error:
            what = f"cannot be reached ({without_secrets(str(error))})"
            raise SceneError(self.name, what, "check the credentials (AWS_PROFILE, AWS_ENDPOINT_URL, ...) and the network") from error
        stated = re.fullmatch(r"bytes \d+-\d+/(\d+)", got.get("ContentRange", ""))
        if stated is None:
            raise SceneError(self.name, "is in a store that does not serve ranges of an object", "download it and name the local copy")
        moment = got.get("LastModified")
        return Answer(
            url=self.name,
            body=body,
            size_bytes=int(stated[1]),
            etag=got.get("ETag", ""),
            modified="" if moment is None else moment.isoformat(),
        )

    def gdal_path(self, answer: Answer) -> str:
        """What GDAL calls it."""
        return f"/vsis3/{answer.url.removeprefix(SCHEME)}"

    def gdal_options(self, answer: Answer) -> dict[str, str]:
        """GDAL's options to reach this object and no other."""
        options = remote_options(self.gdal_path(answer), self.timeout_s)
        endpoint = urlsplit(self._client.meta.endpoint_url)
        if (endpoint.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")):
            return options
        safe = "YES" if endpoint.scheme == "https" else "NO"
        return {**options, "AWS_S3_ENDPOINT": endpoint.netloc, "AWS_HTTPS": safe, "AWS_VIRTUAL_HOSTING": "FALSE"}

    def gdal_session(self) -> Session:
        """The credentials of the moment, for GDAL."""
        from rasterio.session import AWSSession

        if _is_unsigned():
            return AWSSession(aws_unsigned=True, region_name=self._client.meta.region_name)
        boto3, _ = _boto(self.name)
        return AWSSession(session=boto3.Session(region_name=self._client.meta.region_name))


def _boto(name: str) -> tuple[Any, Any]:
    """boto3 and botocore.

    Raises:
        InputError: they are not installed.
    """
    try:
        import boto3
        import botocore
        import botocore.config
        import botocore.exceptions
    except ModuleNotFoundError as error:
        raise InputError(name, "needs boto3, which is not installed", "pip install 'geoanom[s3]'") from error
    return boto3, botocore


def _is_unsigned() -> bool:
    return os.environ.get("AWS_NO_SIGN_REQUEST", "").upper() in {"YES", "TRUE", "1", "ON"}
