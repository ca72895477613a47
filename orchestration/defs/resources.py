"""Resources by the names under which assets ask for them."""

from assets.platform import Platform

RESOURCES = {"platform": Platform()}
