"""Names of public model repositories -> files in the usual cache, pinned to a commit and checked by hash.

names: OWNER/NAME[@REVISION]; listing: what a repository holds and what of it is fetched; download: the bytes of a file;
cache: where they stay, laid out as huggingface_hub does; errors: one line for each failure; fetch: the main path.
huggingface_hub is imported in functions, where the network is wanted, and its usage data is off by then.
"""

from .errors import LicenceNotAccepted
from .fetch import fetch
from .listing import Wanted
from .names import Name, parse_name
from .repository import Repository

__all__ = ["LicenceNotAccepted", "Name", "Repository", "Wanted", "fetch", "parse_name"]
