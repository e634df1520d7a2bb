"""
The one package that names every concrete class: settings in, the parts of a daemon out.

``load_identities`` reads files and blocks, so it runs in no event loop. A reload builds new means from new
settings and hands them over (``Parts.prepare``, ``Parts.adopt``).
"""

from broker.wiring.identities import Identities, load_identities
from broker.wiring.means import Means
from broker.wiring.parts import Parts, build

__all__ = ["Identities", "Means", "Parts", "build", "load_identities"]
