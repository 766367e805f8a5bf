"""The peer of the audit benchmark: every pod of the cluster, page by page, read and thrown away.

`python -m benchmarks.listing KUBECONFIG` ends when the last page is read; it fails where no pod was listed.
"""

from __future__ import annotations

import re
import sys
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from tests.seed import Connection

_PAGE = 200


def main() -> None:
    """List all pods."""
    size, following = 0, ""
    with Connection(Path(sys.argv[1]), timeout_seconds=120.0) as connection:
        while True:
            connection.send("GET", f"/api/v1/pods?limit={_PAGE}&continue={quote(following)}")
            answer = connection.http.getresponse()
            page = answer.read()
            if answer.status != HTTPStatus.OK:
                raise RuntimeError(f"the API server answered {answer.status}: {page[:300]!r}")
            size += len(page)
            # The list's metadata comes before its items.
            found = re.search(rb'"continue":"([^"]+)"', page[:2000])
            if found is None:
                break
            following = found[1].decode()
    print(f"{size} bytes")


if __name__ == "__main__":
    main()
