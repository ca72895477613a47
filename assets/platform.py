"""What every asset works with: the settings, the store, the exchange and the clock of one KLINECAST_HOME."""

from __future__ import annotations

import dagster as dg

from assets.home import Home


class Platform(Home, dg.ConfigurableResource):
    """A home as a resource of Dagster's.

    It holds no configuration of its own: everything comes from the settings (``KLINECAST_*``), so that the UI,
    the command line and a schedule can never disagree.
    """
