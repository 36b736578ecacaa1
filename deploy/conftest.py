"""What needs a server's packages is collected only where they are installed.

MLServer's pins exclude newer releases of what the server needs: it has an environment of its own,
see the Makefile.
"""

from importlib.util import find_spec


def _installed(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None  # a folder of that name is no package


collect_ignore_glob = []
if not (_installed("grpc") and _installed("starlette") and _installed("uvicorn")):
    collect_ignore_glob += ["skmode_deploy/serving/*", "tests/serving/*"]
if not _installed("mlserver"):
    collect_ignore_glob += ["skmode_deploy/serving/mlserver_runtime.py", "tests/mlserver/*"]
