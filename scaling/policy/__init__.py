"""A student leaves the lab: export to one self-describing folder, a loader without training code, a check."""
