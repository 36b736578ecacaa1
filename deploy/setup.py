"""The description that a package index shows; pyproject.toml has all else.

An index has none of the files that README.md links to, so its links lead to the repository, to the
files of this version.
"""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.*)"', (HERE / "skmode_deploy/_version.py").read_text())[1]
FILES = f"https://github.com/skmode/skmode/blob/v{VERSION}/deploy/"
PICTURES = f"https://raw.githubusercontent.com/skmode/skmode/v{VERSION}/"

text = (HERE / "README.md").read_text(encoding="utf-8")
text = re.sub(r"\]\((?!\w+:|#)", f"]({FILES}", text)
text = re.sub(r'(src|srcset)="(?!\w+:)', rf'\1="{PICTURES}', text)
setup(long_description=text, long_description_content_type="text/markdown")
